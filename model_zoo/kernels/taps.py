"""A convolution as lists of what is added to each output channel: the tables that `kernels.convolve` reads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np

from model_zoo.kernels.convolve import DENSE, LANES, SINGLE, SPARSE

# From this share of weights kept, four output channels share what they read; benchmarks/rule.py tries this and the next two.
DENSE_FROM = 0.75
# Input channels whose part of a tile fits the first-level cache, and the additions to a sum that pay for putting it down and taking it up.
CACHED_CHANNELS, PAYING_TAPS = 16, 12


@dataclass(frozen=True)
class Shape:
    """Channels, rows and columns of a value of so many images. Stored, a row has a border cell at either end; there is one channel more."""

    channels: int
    rows: int
    columns: int
    lanes: int = LANES

    @property
    def cell(self) -> int:
        """Bytes of one position."""
        return 4 * self.lanes

    @property
    def row(self) -> int:
        """Bytes from a row to the next."""
        return (self.columns + 2) * self.cell

    @property
    def channel(self) -> int:
        """Bytes from a channel to the next."""
        return (self.rows + 2) * self.row

    @property
    def stored(self) -> tuple[int, int, int, int]:
        """The array's shape."""
        return self.channels + 1, self.rows + 2, self.columns + 2, self.lanes


@dataclass(frozen=True, eq=False)
class Taps:
    """Arguments of `kernels.convolve` by the same names."""

    bias: np.ndarray
    offsets: np.ndarray
    weights: np.ndarray
    starts: np.ndarray
    channels: np.ndarray
    shape: np.ndarray
    at: np.ndarray

    @cached_property
    def additions(self) -> int:
        """Multiply-adds for one image, those of zero weights in dense tiles among them."""
        rows, columns, deep = self.shape[0], self.shape[1], self.shape[4]
        return int(len(self.offsets) * deep * rows * columns)


def forward_taps(
    weight: np.ndarray,
    ones: np.ndarray | None,
    bias: np.ndarray,
    stride: int,
    padding: int,
    source: Shape,
    target: Shape,
    channels: np.ndarray,
    end: int,
) -> Taps:
    """Of a convolution [out, in, k, k] that computes the given output `channels`."""
    full = weight if ones is None else np.concatenate([weight, ones[:, None]], axis=1)
    # The border is one wide: a layer that pads by less begins further inside.
    first = (1 - padding) * (source.row + source.cell)
    return _taps(full, bias, stride, source, first, target, (0, 0), (1, 1), channels, end)


def backward_taps(weight: np.ndarray, stride: int, padding: int, source: Shape, target: Shape, end: int) -> list[Taps]:
    """Of the gradient by a convolution's source, from that by its target: for stride 2 one for each parity of row and column."""
    kernel = weight.shape[2]
    found = []
    for row in range(stride):
        for column in range(stride):
            # Input row stride * a + row meets kernel row k at output row a + (row + padding - k) / stride.
            down = [k for k in reversed(range(kernel)) if (row + padding - k) % stride == 0]
            across = [k for k in reversed(range(kernel)) if (column + padding - k) % stride == 0]
            part = weight[:, :, down][:, :, :, across].transpose(1, 0, 2, 3)
            high = 1 + (row + padding - down[0]) // stride if down else 0
            wide = 1 + (column + padding - across[0]) // stride if across else 0
            first = high * target.row + wide * target.cell
            every, nothing = np.arange(source.channels), np.zeros(source.channels)
            found.append(_taps(part, nothing, 1, target, first, source, (row, column), (stride, stride), every, end))
    return found


def _taps(
    weight: np.ndarray,
    bias: np.ndarray,
    stride: int,
    source: Shape,
    first: int,
    target: Shape,
    start: tuple[int, int],
    step: tuple[int, int],
    channels: np.ndarray,
    end: int,
) -> Taps:
    rows, columns = (ceil((size - begin) / every) for size, begin, every in zip((target.rows, target.columns), start, step, strict=True))
    used = weight != 0
    tile = _tile(used, rows, columns)
    deep, inputs = tile[2], weight.shape[1]
    blocks = channels if deep == 1 else np.minimum(np.arange(0, len(weight), deep), len(weight) - deep)
    members = blocks[:, None] + np.arange(deep)
    group = _group(used[channels]) if tile in SPARSE else inputs
    groups = ceil(inputs / group)
    # In order of block, then of input channel; sorted by group first, which leaves that order inside a group.
    block, channel, down, across = np.nonzero(used[members].any(axis=1))
    order = np.argsort(channel // group, kind="stable")
    block, channel, down, across = block[order], channel[order], down[order], across[order]
    counts = np.bincount(channel // group * len(blocks) + block, minlength=groups * len(blocks)).reshape(groups, len(blocks))
    ends = counts.cumsum().reshape(groups, len(blocks))
    starts = np.concatenate([ends[:, :1] - counts[:, :1], ends], axis=1)
    offsets = first + channel * source.channel + down * source.row + across * source.cell
    weights = weight[members[block], channel[:, None], down[:, None], across[:, None]]
    out = (1 + start[0]) * target.row + (1 + start[1]) * target.cell
    mask_row = 2 * target.columns
    at = [0, source.row, out, step[0] * target.row, step[1] * target.cell, target.channel]
    at += [start[0] * mask_row + 2 * start[1], step[0] * mask_row, 2 * step[1], target.rows * mask_row]
    return Taps(
        bias.astype(np.float32),
        offsets.astype(np.int32),
        weights.astype(np.float32).reshape(-1),
        starts.astype(np.int64),
        np.asarray(blocks, np.int64),
        np.array([rows, columns, *tile, stride, end, source.lanes], np.int64),
        np.array(at, np.int64),
    )


def _tile(used: np.ndarray, rows: int, columns: int) -> tuple[int, int, int]:
    """The rule by which a layer is run dense or sparse: how much is kept, and whether a tile fits."""
    if used.size and used.mean() >= DENSE_FROM and len(used) >= DENSE[2] and rows >= DENSE[0] and columns >= DENSE[1]:
        return DENSE
    return next((tile for tile in SPARSE if rows >= tile[0] and columns >= tile[1]), SINGLE)


def _group(used: np.ndarray) -> int:
    """Input channels that are read before the next ones: few enough for the cache, enough to pay for interrupting a sum."""
    outputs, inputs = used.shape[:2]
    taps = used.sum() / max(outputs * inputs, 1)
    wanted = max(CACHED_CHANNELS, ceil(PAYING_TAPS / taps)) if taps else inputs
    return max(1, min(wanted, inputs))
