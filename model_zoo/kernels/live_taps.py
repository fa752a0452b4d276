"""Taps that can be refilled in milliseconds if masks or batch statistics change, for schedules made once from dense shapes."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numba import njit

from model_zoo.kernels.convolve import SHORT, SPARSE
from model_zoo.kernels.graph import Convolution
from model_zoo.kernels.taps import Pass, Shape, Taps, backward_passes, forward_pass, group_size, sparse_tile


@dataclass(frozen=True, eq=False)
class Entries:
    """The nonzero entries of a convolution's weight [out, in, k, k].

    Attributes
    ----------
    places : np.ndarray
        int64 [n]: flat positions, ascending.
    values : np.ndarray
        float32 [n]: the entries.
    shape : tuple of int
        Shape of the weight.
    """

    places: np.ndarray
    values: np.ndarray
    shape: tuple[int, int, int, int]

    @classmethod
    def of(cls, weight: np.ndarray) -> Entries:
        """Return the entries of a contiguous float32 weight [out, in, k, k]."""
        places, values = _nonzero(weight.reshape(-1))
        outputs, inputs, rows, columns = weight.shape
        return cls(places, values, (outputs, inputs, rows, columns))


class LiveTaps:
    """Maker of empty taps for a schedule, which it fills for each new set of entries, scales and shifts."""

    def __init__(self) -> None:
        self._taps: dict[int, list[tuple[Taps, Pass, bool]]] = {}

    def forward(self, step: Convolution, source: Shape, target: Shape, end: int) -> Taps:
        """Return empty taps that compute the convolution's output."""
        return self._register(step, forward_pass(step.weight.shape[2], step.stride, step.padding, source, target, end), backward=False)

    def backward(self, step: Convolution, source: Shape, target: Shape, end: int) -> list[Taps]:
        """Return empty taps that compute the gradient with respect to the convolution's source."""
        passes = backward_passes(step.weight.shape[2], step.stride, step.padding, source, target, end)
        return [self._register(step, geometry, backward=True) for geometry in passes]

    def _register(self, step: Convolution, geometry: Pass, backward: bool) -> Taps:
        taps = empty_taps(geometry, step.weight.shape[1 if backward else 0])
        self._taps.setdefault(step.target, []).append((taps, geometry, backward))
        return taps

    def fill(self, target: int, entries: Entries, scale: np.ndarray, shift: np.ndarray) -> None:
        """Fill the taps of the convolution that computes value `target` with entries times `scale` [out] and the bias `shift` [out]."""
        for taps, geometry, backward in self._taps[target]:
            fill_taps(taps, geometry, backward, entries, scale)
            if not backward:
                taps.bias = _as_stored(shift, geometry)


def empty_taps(geometry: Pass, outputs: int) -> Taps:
    """Return taps without entries and with zero biases for a pass that computes `outputs` channels."""
    no_offsets = np.zeros(0, np.int32)
    starts = np.zeros((1, outputs + 1), np.int64)
    shape = geometry.shape(sparse_tile(*geometry.positions))
    no_weights = _as_stored(np.zeros(0), geometry)
    return Taps(_as_stored(np.zeros(outputs), geometry), no_offsets, no_weights, starts, np.arange(outputs), shape, geometry.at)


def fill_taps(taps: Taps, geometry: Pass, backward: bool, entries: Entries, scale: np.ndarray) -> None:
    """Write the offsets, weights and starts of `entries` into `taps`, each entry multiplied by the `scale` of its output channel."""
    outputs, inputs, kernel, _ = entries.shape
    source = geometry.source
    down, across = _positions(geometry.down, kernel), _positions(geometry.across, kernel)
    blocks, channels = (inputs, outputs) if backward else (outputs, inputs)
    tile = tuple(int(size) for size in taps.shape[2:5])
    share = len(geometry.down) * len(geometry.across) / kernel**2
    group = group_size(round(share * len(entries.places)), blocks, channels) if tile in SPARSE else channels
    offsets, weights, starts = _sorted(
        entries.places, entries.values, scale, inputs, kernel, down, across, backward, group, ceil(channels / group), blocks,
        np.array([geometry.first, source.channel, source.row, source.cell], np.int64),
    )  # fmt: skip
    taps.offsets, taps.weights, taps.starts = offsets, _as_stored(weights, geometry), starts


def _as_stored(values: np.ndarray, geometry: Pass) -> np.ndarray:
    """Convert values to what `convolve.convolve` takes for the cells of a pass: float32, or the bits of float16 numbers."""
    return values.astype(np.float16).view(np.uint16) if geometry.source.lanes == SHORT else values.astype(np.float32, copy=False)


def _positions(part: tuple[int, ...], kernel: int) -> np.ndarray:
    """Return the index of each kernel row or column among those that take part, or -1 if it does not."""
    order = np.full(kernel, -1, np.int64)
    order[list(part)] = np.arange(len(part))
    return order


@njit(cache=True, nogil=True)
def _nonzero(flat):  # type: ignore[no-untyped-def]
    count = 0
    for value in flat:
        count += value != 0
    places, values = np.empty(count, np.int64), np.empty(count, np.float32)
    count = 0
    for place in range(flat.shape[0]):
        if flat[place] != 0:
            places[count], values[count] = place, flat[place]
            count += 1
    return places, values


@njit(cache=True, nogil=True)
def _sorted(places, values, scale, inputs, kernel, down, across, backward, group, groups, blocks, at):  # type: ignore[no-untyped-def]
    """Sort entries by group of source channels, then by target channel, by counting; entries of a block keep their order."""
    area = kernel * kernel
    starts = np.zeros((groups, blocks + 1), np.int64)
    for place in places:
        window = place % area
        if down[window // kernel] >= 0 and across[window % kernel] >= 0:
            output, source = place // area // inputs, place // area % inputs
            block, channel = (source, output) if backward else (output, source)
            starts[channel // group, block + 1] += 1
    total = 0
    for number in range(groups):
        starts[number, 0] = total
        for block in range(blocks):
            total += starts[number, block + 1]
            starts[number, block + 1] = total
    offsets, weights, free = np.empty(total, np.int32), np.empty(total, np.float32), starts[:, :-1].copy()
    for entry in range(places.shape[0]):
        place = places[entry]
        window = place % area
        row, column = down[window // kernel], across[window % kernel]
        if row >= 0 and column >= 0:
            output, source = place // area // inputs, place // area % inputs
            block, channel = (source, output) if backward else (output, source)
            slot = free[channel // group, block]
            free[channel // group, block] = slot + 1
            offsets[slot] = at[0] + channel * at[1] + row * at[2] + column * at[3]
            weights[slot] = values[entry] * scale[output]
    return offsets, weights, starts
