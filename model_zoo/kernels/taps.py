"""Convolutions as tables of the inputs that are added to each output channel, which `convolve.convolve` reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np

from model_zoo.kernels.convolve import DENSE, LANES, SINGLE, SPARSE, item_bytes, mask_bytes

# From this share of kept weights on, four output channels share what they read; benchmarks/rule.py tunes this and the next two.
DENSE_FROM = 0.75
# Input channels whose part of a tile fits the first-level cache, and the additions to a sum that pay for storing and reloading it.
CACHED_CHANNELS, PAYING_TAPS = 16, 12


@dataclass(frozen=True)
class Shape:
    """Channels, rows and columns of a value of `lanes` images; its array has a border one position wide and one more channel."""

    channels: int
    rows: int
    columns: int
    lanes: int = LANES

    @property
    def cell(self) -> int:
        """Bytes per position."""
        return item_bytes(self.lanes) * self.lanes

    @property
    def row(self) -> int:
        """Bytes from one row to the next."""
        return (self.columns + 2) * self.cell

    @property
    def channel(self) -> int:
        """Bytes from one channel to the next."""
        return (self.rows + 2) * self.row

    @property
    def stored(self) -> tuple[int, int, int, int]:
        """Shape of the array, with the border and the additional channel."""
        return self.channels + 1, self.rows + 2, self.columns + 2, self.lanes


@dataclass(eq=False)
class Taps:
    """Arguments of `convolve.convolve` with the same names."""

    bias: np.ndarray
    offsets: np.ndarray
    weights: np.ndarray
    starts: np.ndarray
    channels: np.ndarray
    shape: np.ndarray
    at: np.ndarray

    @property
    def additions(self) -> int:
        """Multiply-adds per image, including those of zero weights in dense tiles."""
        rows, columns, deep = self.shape[0], self.shape[1], self.shape[4]
        return int(len(self.offsets) * deep * rows * columns)


@dataclass(frozen=True)
class Pass:
    """Geometry of one pass of `convolve.convolve` over a convolution, without its weights.

    Attributes
    ----------
    source, target : Shape
        Shapes that are read and written; in the backward pass, those of the convolution's output and input gradients.
    down, across : tuple of int
        The kernel's rows and columns that take part, in the order of the source's rows and columns.
    stride : int
        Source positions between neighbouring target positions that are computed.
    first : int
        Bytes from the source's beginning to the first position that is read.
    start, step : tuple of int
        First target row and column that are computed, and the distance to the next ones.
    end : int
        How the sums end: `convolve.ADD`, `RELU` or `MASKED`.
    """

    source: Shape
    target: Shape
    down: tuple[int, ...]
    across: tuple[int, ...]
    stride: int
    first: int
    start: tuple[int, int]
    step: tuple[int, int]
    end: int

    @property
    def positions(self) -> tuple[int, int]:
        """Number of rows and columns of the target that are computed."""
        sizes = (self.target.rows, self.target.columns)
        rows, columns = (ceil((size - begin) / step) for size, begin, step in zip(sizes, self.start, self.step, strict=True))
        return rows, columns

    @property
    def at(self) -> np.ndarray:
        """The argument `at` of `convolve.convolve`, int64, in bytes."""
        target, (row, column), (row_step, column_step) = self.target, self.start, self.step
        out = (1 + row) * target.row + (1 + column) * target.cell
        bits = mask_bytes(target.lanes)
        mask_row = bits * target.columns
        places = [0, self.source.row, out, row_step * target.row, column_step * target.cell, target.channel]
        places += [row * mask_row + bits * column, row_step * mask_row, bits * column_step, target.rows * mask_row]
        return np.array(places, np.int64)

    def shape(self, tile: tuple[int, int, int]) -> np.ndarray:
        """Return the argument `shape` of `convolve.convolve`, int64, for a tile of (rows, columns, channels)."""
        return np.array([*self.positions, *tile, self.stride, self.end, self.source.lanes], np.int64)


def forward_pass(kernel: int, stride: int, padding: int, source: Shape, target: Shape, end: int) -> Pass:
    """Return the pass that computes a convolution's output from its input."""
    window = tuple(range(kernel))
    # The border is one position wide: a layer that pads by less starts further inside.
    first = (1 - padding) * (source.row + source.cell)
    return Pass(source, target, window, window, stride, first, (0, 0), (1, 1), end)


def backward_passes(kernel: int, stride: int, padding: int, source: Shape, target: Shape, end: int) -> Iterator[Pass]:
    """Yield the passes for the gradient with respect to `source` from that of a convolution's `target`, one per row and column parity."""
    for row in range(stride):
        for column in range(stride):
            # Input row stride * a + row meets kernel row k at output row a + (row + padding - k) / stride.
            down = tuple(k for k in reversed(range(kernel)) if (row + padding - k) % stride == 0)
            across = tuple(k for k in reversed(range(kernel)) if (column + padding - k) % stride == 0)
            high = 1 + (row + padding - down[0]) // stride if down else 0
            wide = 1 + (column + padding - across[0]) // stride if across else 0
            first = high * target.row + wide * target.cell
            yield Pass(target, source, down, across, 1, first, (row, column), (stride, stride), end)


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
    """Return the taps of a convolution [out, in, k, k] that compute the output `channels`; `ones` [out, k, k] reads the channel of ones."""
    full = weight if ones is None else np.concatenate([weight, ones[:, None]], axis=1)
    return _taps(full, bias, forward_pass(weight.shape[2], stride, padding, source, target, end), channels)


def backward_taps(weight: np.ndarray, stride: int, padding: int, source: Shape, target: Shape, end: int) -> list[Taps]:
    """Return the taps for the gradient with respect to a convolution's source from that of its target: for stride 2 one per parity."""
    channels, no_bias = np.arange(source.channels), np.zeros(source.channels)
    passes = backward_passes(weight.shape[2], stride, padding, source, target, end)
    return [
        _taps(weight[:, :, geometry.down][:, :, :, geometry.across].transpose(1, 0, 2, 3), no_bias, geometry, channels)
        for geometry in passes
    ]


def _taps(weight: np.ndarray, bias: np.ndarray, geometry: Pass, channels: np.ndarray) -> Taps:
    """Return the taps of `weight` [outputs, inputs, rows, columns], whose window is in the order of the source's positions."""
    source = geometry.source
    is_used = weight != 0
    tile = _tile(is_used, *geometry.positions)
    deep, inputs = tile[2], weight.shape[1]
    blocks = channels if deep == 1 else np.minimum(np.arange(0, len(weight), deep), len(weight) - deep)
    members = blocks[:, None] + np.arange(deep)
    group = group_size(int(is_used[channels].sum()), len(channels), inputs) if tile in SPARSE else inputs
    groups = ceil(inputs / group)
    # np.nonzero orders by block, then by input channel; the stable sort by group keeps that order within each group.
    block, channel, down, across = np.nonzero(is_used[members].any(axis=1))
    order = np.argsort(channel // group, kind="stable")
    block, channel, down, across = block[order], channel[order], down[order], across[order]
    counts = np.bincount(channel // group * len(blocks) + block, minlength=groups * len(blocks)).reshape(groups, len(blocks))
    ends = counts.cumsum().reshape(groups, len(blocks))
    starts = np.concatenate([ends[:, :1] - counts[:, :1], ends], axis=1)
    offsets = geometry.first + channel * source.channel + down * source.row + across * source.cell
    weights = weight[members[block], channel[:, None], down[:, None], across[:, None]]
    return Taps(
        bias.astype(np.float32),
        offsets.astype(np.int32),
        weights.astype(np.float32).reshape(-1),
        starts.astype(np.int64),
        np.asarray(blocks, np.int64),
        geometry.shape(tile),
        geometry.at,
    )


def _tile(is_used: np.ndarray, rows: int, columns: int) -> tuple[int, int, int]:
    """Choose a dense or a sparse tile for a layer, by its share of kept weights and by whether a dense tile fits."""
    if is_used.size and is_used.mean() >= DENSE_FROM and len(is_used) >= DENSE[2] and rows >= DENSE[0] and columns >= DENSE[1]:
        return DENSE
    return sparse_tile(rows, columns)


def sparse_tile(rows: int, columns: int) -> tuple[int, int, int]:
    """Return the largest tile of one output channel that fits, as (rows, columns, channels)."""
    return next((tile for tile in SPARSE if rows >= tile[0] and columns >= tile[1]), SINGLE)


def group_size(kept: int, outputs: int, inputs: int) -> int:
    """Return how many input channels are read before the next ones: few enough for the cache, enough to pay for interrupting a sum."""
    taps = kept / max(outputs * inputs, 1)
    target = max(CACHED_CHANNELS, ceil(PAYING_TAPS / taps)) if taps else inputs
    return max(1, min(target, inputs))
