"""Forward and backward pass of a network in training mode: batch statistics, sparse convolutions, dense weight gradients.

A batch is split into cells of sixteen images. Batch statistics need all cells of a layer, so layers are computed one after the other;
within a layer, each cell is normalised, converted and convolved while it is in the cache. Threads share the cells. Sums over cells are
added in the order of the cells, so results do not depend on the number of threads (except through the matrix products of the weight
gradients).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from model_zoo.kernels import batch_norm, convolve
from model_zoo.kernels.batch_norm import LINEAR, RELU_OF_NORM, RELU_OF_OUTPUT
from model_zoo.kernels.convolve import ADD, LANES
from model_zoo.kernels.graph import Layer, Pool, UnsuitedError
from model_zoo.kernels.live_taps import Entries, empty_taps, fill_taps
from model_zoo.kernels.runner import aligned, in_threads
from model_zoo.kernels.statistics import Norm, Statistics, combine_statistics
from model_zoo.kernels.taps import Pass, Shape, Taps, backward_passes, forward_pass
from model_zoo.kernels.weight_gradient import Operand, half_type, weight_gradient

_NO_RESIDUAL, _NO_MASK = np.zeros(0, np.float32), np.zeros(0, np.uint16)
_NO_VALUE = np.zeros((0, 0, 0, 0), np.float32)


@dataclass
class Gradients:
    """Gradients of one layer with respect to its weight, float32 [out, in, k, k], and its batch norm's scale and shift, [out] or None."""

    weight: torch.Tensor
    norm_weight: torch.Tensor | None = None
    norm_bias: torch.Tensor | None = None


@dataclass
class Tape:
    """What a forward pass records for the backward pass: values and statistics by value number, operands by value number and stride."""

    convolved: dict[int, np.ndarray]
    outputs: dict[int, np.ndarray]
    operands: dict[tuple[int, int], Operand]
    live: dict[int, np.ndarray] = field(default_factory=dict)
    rows: dict[int, np.ndarray] = field(default_factory=dict)
    folds: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    statistics: dict[int, Statistics] = field(default_factory=dict)
    norms: dict[int, Norm] = field(default_factory=dict)


class _PlacedLayer:
    """A layer with its source and target shapes and its taps."""

    def __init__(self, layer: Layer, source: Shape, target: Shape, kernel: int) -> None:
        self.layer, self.source, self.target, self.kernel = layer, source, target, kernel
        forward = forward_pass(kernel, layer.stride, layer.padding, source, target, ADD)
        backward = list(backward_passes(kernel, layer.stride, layer.padding, source, target, ADD))
        self.forward: tuple[Taps, Pass] = (empty_taps(forward, target.channels), forward)
        self.backward = [(empty_taps(geometry, source.channels), geometry) for geometry in backward]
        self.reached = np.zeros(target.channels, dtype=bool)

    def fill(self, entries: Entries) -> None:
        ones = np.ones(self.target.channels, np.float32)
        fill_taps(*self.forward, False, entries, ones)
        for taps, geometry in self.backward:
            fill_taps(taps, geometry, True, entries, ones)
        self.reached = np.zeros(self.target.channels, dtype=bool)
        self.reached[entries.places // (self.source.channels * self.kernel**2)] = True


class BatchPass:
    """Training passes through one network for batches of one size; buffers are reused between passes.

    Parameters
    ----------
    layers : sequence
        Layers as returned by `model_zoo.kernels.graph.trace`.
    shapes : mapping
        Shape of every value, as returned by `model_zoo.kernels.schedule.value_shapes`.
    mean, deviation : np.ndarray
        float32 [3], normalisation of the images.
    images : int
        Batch size, a multiple of sixteen.

    Raises
    ------
    UnsuitedError
        If `images` is not a multiple of sixteen.
    """

    def __init__(
        self, layers: Sequence[Layer | Pool], shapes: Mapping[int, Shape], mean: np.ndarray, deviation: np.ndarray, images: int
    ) -> None:
        if images % LANES:
            raise UnsuitedError(f"engine sparse trains on batches that are multiples of {LANES}, not {images}")
        self.layers, self.shapes, self.cells = layers, shapes, images // LANES
        self.mean, self.deviation, self.half = mean.astype(np.float32), deviation.astype(np.float32), half_type()
        self.places = {
            layer.target: _PlacedLayer(layer, shapes[layer.source], shapes[layer.target], _kernel_size(layer))
            for layer in layers
            if isinstance(layer, Layer)
        }
        self.last = layers[-1].target
        self._producers = {layer.target: layer for layer in layers}
        self._residuals = {layer.residual for layer in layers if isinstance(layer, Layer) and layer.residual is not None}
        self._pools = {layer.source: layer for layer in layers if isinstance(layer, Pool)}
        self._readers = {value: [placed for placed in self.places.values() if placed.layer.source == value] for value in shapes}
        self._tapes: list[Tape] = []
        self._scratches: list[_Scratch] = []
        self._output_operands: dict[Shape, Operand] = {}
        self._empty_operand = Operand(Shape(1, 1, 1), 1, 1, self.half)
        self._free: dict[tuple[int, ...], list[np.ndarray]] = {}

    def fill(self, entries: Mapping[int, Entries]) -> None:
        """Load the weights of every layer; `entries` maps target values to them."""
        for target, placed in self.places.items():
            placed.fill(entries[target])

    def forward(self, images: np.ndarray, norms: Mapping[int, Norm]) -> tuple[np.ndarray, Tape]:
        """Return the logits [N, classes] of float32 images [N, 3, H, W], and the tape to pass to `backward` or `release`."""
        tape = self._tapes.pop() if self._tapes else self._new_tape()
        tape.norms = dict(norms)
        sums = {target: np.empty((self.cells, placed.target.channels, 2)) for target, placed in self.places.items()}
        nonzero: dict[int, np.ndarray] = {}
        for value in sorted(self.shapes):
            self._mark_live(tape, value, nonzero)
            self._run_cells(lambda cell, scratch, value=value: self._forward_cell(tape, value, cell, scratch, images, sums))  # type: ignore[misc]
            for placed in self._readers[value]:
                target = placed.layer.target
                tape.statistics[target] = combine_statistics(sums[target], LANES * placed.target.rows * placed.target.columns)
                tape.folds[target] = tape.statistics[target].fold(norms[target])
        logits = tape.outputs[self.last][:, :, 1, 1].transpose(0, 2, 1).reshape(len(images), -1)
        return np.ascontiguousarray(logits), tape

    def release(self, tape: Tape) -> None:
        """Return a tape to the pool without a backward pass."""
        self._tapes.append(tape)

    def backward(self, gradient: np.ndarray, tape: Tape) -> dict[int, Gradients]:
        """Return the gradients of every layer by target value, and return the tape to the pool.

        `gradient` is float32 [N, classes], the gradient with respect to the logits.
        """
        gradients: dict[int, Gradients] = {}
        by_value: dict[int, np.ndarray] = {self.last: self._take_buffer(self.shapes[self.last])}
        by_value[self.last][:, :, 1, 1] = gradient.reshape(self.cells, LANES, -1).transpose(0, 2, 1)
        sums = {target: np.empty((self.cells, placed.target.channels, 2)) for target, placed in self.places.items()}
        self._run_cells(lambda cell, scratch: self._finish_cell(tape, self.last, cell, by_value[self.last], sums))
        pending = {value: len(readers) for value, readers in self._readers.items()}
        for layer in reversed(self.layers):
            if isinstance(layer, Pool):
                pooled, by_value[layer.source] = by_value.pop(layer.target), self._take_buffer(self.shapes[layer.source])

                def spread(cell: int, scratch: _Scratch, layer: Pool = layer, pooled: np.ndarray = pooled) -> None:
                    batch_norm.spread_mean(pooled[cell], by_value[layer.source][cell])
                    self._finish_cell(tape, layer.source, cell, by_value[layer.source], sums)

                self._run_cells(spread)
                self._give_back(pooled, by_value)
                continue
            gradients[layer.target] = self._backward_layer(tape, self.places[layer.target], by_value, sums, pending)
        self._tapes.append(tape)
        return gradients

    def _mark_live(self, tape: Tape, value: int, nonzero: dict[int, np.ndarray]) -> None:
        """Record which channels of a value may be nonzero, and their rows in the operands of the weight gradients."""
        producer = self._producers.get(value)
        if isinstance(producer, Layer):
            bias = tape.norms[value].bias
            shifted = np.zeros(self.shapes[value].channels, dtype=bool) if bias is None else bias > 0 if producer.relu else bias != 0
            nonzero[value] = self.places[value].reached | shifted
            if producer.residual is not None:
                nonzero[value] = np.ones_like(shifted) if bias is not None else nonzero[value] | nonzero[producer.residual]
        elif producer is not None:
            nonzero[value] = nonzero[producer.source]
        else:
            nonzero[value] = np.ones(self.shapes[value].channels, dtype=bool)
        tape.live[value] = np.flatnonzero(nonzero[value])
        tape.rows[value] = np.where(nonzero[value] & bool(self._readers[value]), nonzero[value].cumsum() - 1, -1)

    def _forward_cell(
        self, tape: Tape, value: int, cell: int, scratch: _Scratch, images: np.ndarray, sums: Mapping[int, np.ndarray]
    ) -> None:
        """Compute a value in one cell, then run every layer that reads it."""
        producer, operands = self._producers.get(value), self._operands_of(tape, value)
        out = tape.outputs[value][cell] if value in tape.outputs else scratch.take(self.shapes[value])
        if producer is None:
            convolve.pack(images[cell * LANES : (cell + 1) * LANES], out, self.mean, self.deviation)
        elif isinstance(producer, Layer):
            residual = _NO_VALUE if producer.residual is None else tape.outputs[producer.residual][cell]
            # A value that no convolution reads has no operand: all of its rows are -1, so nothing is written to the placeholder.
            first, *operands = self._operands_of(tape, value) or [self._empty_operand]
            arguments = tape.convolved[value][cell], *tape.folds[value], residual, producer.relu, out
            batch_norm.normalise(*arguments, tape.rows[value], first.parts, *first.place(cell))
        if value in self._pools:
            target = self._pools[value].target
            convolve.average(out, tape.outputs[target][cell], self.shapes[value].channels)
        for operand in operands:
            operand.write(out, cell, tape.rows[value])
        for placed in self._readers[value]:
            convolved = tape.convolved[placed.layer.target][cell]
            _convolve(out, convolved, placed.forward[0], _NO_RESIDUAL)
            batch_norm.moments(convolved, sums[placed.layer.target][cell])

    def _finish_cell(self, tape: Tape, value: int, cell: int, by_value: np.ndarray, sums: Mapping[int, np.ndarray]) -> None:
        """Multiply the complete gradient of a layer's output by the ReLU's slope, and sum it per channel for the batch norm."""
        layer = self._producers.get(value)
        if not isinstance(layer, Layer):
            return
        slope = LINEAR if not layer.relu else RELU_OF_NORM if layer.residual is None else RELU_OF_OUTPUT
        out = tape.outputs[value][cell] if slope == RELU_OF_OUTPUT else _NO_VALUE
        about = tape.statistics[value].mean.astype(np.float32)
        batch_norm.backward_sums(by_value[cell], tape.convolved[value][cell], out, slope, *tape.folds[value], about, sums[value][cell])

    def _backward_layer(
        self, tape: Tape, placed: _PlacedLayer, by_value: dict[int, np.ndarray], sums: Mapping[int, np.ndarray], pending: dict[int, int]
    ) -> Gradients:
        layer = placed.layer
        by_output = by_value.pop(layer.target)
        if layer.residual is not None:
            by_value[layer.residual] = by_output
        (by_g, by_z, constant), gradients = self._norm_gradients(tape, layer.target, sums[layer.target].sum(0))
        operand = self._operand_by_output(placed.target)
        pending[layer.source] -= 1
        previous = by_value.get(layer.source)
        updated = self._take_buffer(placed.source) if layer.source else None

        def work(cell: int, scratch: _Scratch) -> None:
            by_convolved = scratch.take(placed.target)
            gradient, convolved = by_output[cell], tape.convolved[layer.target][cell]
            batch_norm.backward(gradient, convolved, by_g, by_z, constant, by_convolved, operand.parts, *operand.place(cell))
            if layer.residual is not None and not self._readers[layer.residual]:
                self._finish_cell(tape, layer.residual, cell, by_output, sums)
            if updated is not None:
                for taps, _ in placed.backward:
                    _convolve(by_convolved, updated[cell], taps, _NO_RESIDUAL if previous is None else previous[cell].reshape(-1))
                if not pending[layer.source]:
                    self._finish_cell(tape, layer.source, cell, updated, sums)

        self._run_cells(work)
        if updated is not None:
            by_value[layer.source] = updated
        for used in (by_output, previous):
            if used is not None:
                self._give_back(used, by_value)
        live = tape.live[layer.source]
        gradients.weight = weight_gradient(
            tape.operands[layer.source, layer.stride], operand, placed.kernel, layer.padding, placed.source.channels, live
        )
        return gradients

    def _norm_gradients(self, tape: Tape, target: int, sums: np.ndarray) -> tuple[tuple[np.ndarray, ...], Gradients]:
        """Return the factors of `batch_norm.backward` and the gradients of the norm's parameters from the sums of `backward_sums`."""
        norm, statistics = tape.norms[target], tape.statistics[target]
        if norm.eps is None:
            ones = np.ones(len(sums), np.float32)
            return (ones, np.zeros_like(ones), np.zeros_like(ones)), Gradients(torch.empty(0))
        inverse = 1.0 / np.sqrt(statistics.variance + norm.eps)
        # The sums were taken about the mean rounded to float32; this corrects for the difference.
        rounding = statistics.mean - statistics.mean.astype(np.float32)
        total, by_weight = sums[:, 0], (sums[:, 1] - rounding * sums[:, 0]) * inverse
        scale = inverse if norm.weight is None else inverse * norm.weight
        by_z = -scale * inverse * by_weight / statistics.count
        constant = -scale * total / statistics.count - by_z * statistics.mean
        gradients = Gradients(torch.empty(0))
        if norm.weight is not None:
            gradients.norm_weight = torch.from_numpy(by_weight.astype(np.float32))
        if norm.bias is not None:
            gradients.norm_bias = torch.from_numpy(total.astype(np.float32))
        return tuple(factor.astype(np.float32) for factor in (scale, by_z, constant)), gradients

    def _new_tape(self) -> Tape:
        stored = {0, self.last} | self._residuals | {pool.target for pool in self._pools.values()}
        stored |= {target for target, placed in self.places.items() if placed.layer.residual is not None}
        operands = {
            (value, placed.layer.stride): self._operand(self.shapes[value], placed.layer.stride)
            for value, readers in self._readers.items()
            for placed in readers
        }
        return Tape(
            {target: self._allocate(placed.target) for target, placed in self.places.items()},
            {value: self._allocate(self.shapes[value]) for value in stored},
            operands,
        )

    def _allocate(self, shape: Shape) -> np.ndarray:
        stored = (self.cells, shape.channels, shape.rows + 2, shape.columns + 2, LANES)
        return aligned(int(np.prod(stored))).reshape(stored)

    def _take_buffer(self, shape: Shape) -> np.ndarray:
        key = (shape.channels, shape.rows, shape.columns)
        free = self._free.setdefault(key, [])
        return free.pop() if free else self._allocate(shape)

    def _give_back(self, array: np.ndarray, by_value: Mapping[int, np.ndarray]) -> None:
        """Return a gradient's buffer to the pool unless another value shares it."""
        if not any(gradient is array for gradient in by_value.values()):
            self._free[array.shape[1], array.shape[2] - 2, array.shape[3] - 2].append(array)

    def _operands_of(self, tape: Tape, value: int) -> list[Operand]:
        """Return the operands of a value's weight gradients, one per stride."""
        return [tape.operands[value, stride] for stride in sorted({placed.layer.stride for placed in self._readers[value]})]

    def _operand(self, shape: Shape, stride: int) -> Operand:
        # After the pooling a value has a single position: float32 products are small, and few numbers are summed.
        return Operand(shape, self.cells, stride, torch.float32 if shape.rows * shape.columns == 1 else self.half)

    def _operand_by_output(self, shape: Shape) -> Operand:
        if shape not in self._output_operands:
            self._output_operands[shape] = self._operand(shape, 1)
        return self._output_operands[shape]

    def _run_cells(self, work: Callable[[int, _Scratch], None]) -> None:
        threads = max(1, min(torch.get_num_threads(), self.cells))
        while len(self._scratches) < threads:
            self._scratches.append(_Scratch())

        def _run_thread(first: int) -> None:
            for cell in range(first, self.cells, threads):
                work(cell, self._scratches[first])

        in_threads(_run_thread, threads)


class _Scratch:
    """Scratch cells of one thread, one per shape; every `take` of a shape returns the same cell."""

    def __init__(self) -> None:
        self._cells: dict[Shape, np.ndarray] = {}

    def take(self, shape: Shape) -> np.ndarray:
        if shape not in self._cells:
            stored = (shape.channels, shape.rows + 2, shape.columns + 2, LANES)
            self._cells[shape] = aligned(int(np.prod(stored))).reshape(stored)
        return self._cells[shape]


def _kernel_size(layer: Layer) -> int:
    size = layer.convolution.kernel_size
    return int(np.ravel(np.asarray(size))[0])


def _convolve(source: np.ndarray, target: np.ndarray, taps: Taps, residual: np.ndarray) -> None:
    convolve.convolve(
        source.reshape(-1), target.reshape(-1), residual, _NO_MASK,
        taps.bias, taps.offsets, taps.weights, taps.starts, taps.channels, taps.shape, taps.at,
    )  # fmt: skip
