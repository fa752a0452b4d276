"""Schedule of the sparse engine for images of one size: the buffers that each step reads and writes, forward and backward."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from model_zoo.kernels.convolve import ADD, MASKED, RELU
from model_zoo.kernels.graph import Convolution, Graph, Pool, UnsuitedError
from model_zoo.kernels.taps import Shape, Taps, backward_taps, forward_taps


@dataclass(frozen=True, eq=False)
class Run:
    """One call of `convolve.convolve`: its taps, the numbers of its buffers, and the part of the masks that it writes or reads."""

    taps: Taps
    source: int
    target: int
    residual: int | None = None
    mask: slice | None = None


@dataclass(frozen=True)
class Average:
    """Average pooling; in the backward pass, spreads the gradient through the mask of the pooled value."""

    source: int
    target: int
    channels: int
    mask: slice


Work = Run | Average


@dataclass
class Buffers:
    """Numbered buffers with their shapes; released buffers are reused."""

    shapes: list[Shape] = field(default_factory=list)
    free: list[int] = field(default_factory=list)

    def take(self, shape: Shape) -> int:
        """Return the number of a free buffer of that shape, the last released first because it may still be cached, or of a new one."""
        for number in reversed(self.free):
            if self.shapes[number] == shape:
                self.free.remove(number)
                return number
        self.shapes.append(shape)
        return len(self.shapes) - 1


@dataclass(frozen=True, eq=False)
class Schedule:
    """Work for `lanes` images at a time, and the buffers that it needs.

    Attributes
    ----------
    forward, backward : list
        Work items in order of execution.
    shapes : list of Shape
        Shape of each buffer.
    image, logits, logits_gradient, image_gradient : int
        Numbers of the buffers that the first item of either direction reads and the last one writes.
    masks : int
        Number of mask words per cell, one bit per image, that the forward pass leaves for the backward pass: which sums were positive.
    """

    forward: list[Work]
    backward: list[Work]
    shapes: list[Shape]
    image: int
    logits: int
    logits_gradient: int
    image_gradient: int
    masks: int


class TapMaker(Protocol):
    """Protocol of objects that make the taps of a convolution, forward and backward."""

    def forward(self, step: Convolution, source: Shape, target: Shape, end: int) -> Taps:
        """Return the taps that compute the convolution's output."""

    def backward(self, step: Convolution, source: Shape, target: Shape, end: int) -> list[Taps]:
        """Return the taps that compute the gradient with respect to the convolution's source."""


class FixedTaps:
    """Maker of taps from the weights stored in the graph."""

    def forward(self, step: Convolution, source: Shape, target: Shape, end: int) -> Taps:
        """Return the forward taps of the output channels that later steps depend on."""
        live = np.flatnonzero(step.live if step.live is not None else np.ones(len(step.weight), dtype=bool))
        return forward_taps(step.weight, step.ones, step.bias, step.stride, step.padding, source, target, live, end)

    def backward(self, step: Convolution, source: Shape, target: Shape, end: int) -> list[Taps]:
        """Return the backward taps; see `TapMaker.backward`."""
        return backward_taps(step.weight, step.stride, step.padding, source, target, end)


def make_schedule(graph: Graph, rows: int, columns: int, lanes: int, taps: TapMaker | None = None) -> Schedule:
    """Return the schedule for images of `rows` x `columns` pixels, `lanes` at a time, with taps made by `taps` (default: `FixedTaps`).

    Raises
    ------
    UnsuitedError
        If a layer pads by more than one position, has a stride above two or pools by maxima (as the stems of ImageNet networks do), or if a
        residual or the pooling is used in a way that residual networks of the zoo do not.
    """
    maker = taps or FixedTaps()
    shapes = value_shapes(graph, Shape(len(graph.mean), rows, columns, lanes))
    masks, words = _masks(graph, shapes)
    buffers = Buffers()
    forward, image, logits = _forward(graph, shapes, masks, buffers, maker)
    buffers.free = list(range(len(buffers.shapes)))
    backward, logits_gradient, image_gradient = _backward(graph, shapes, masks, buffers, maker)
    return Schedule(forward, backward, buffers.shapes, image, logits, logits_gradient, image_gradient, words)


def value_shapes(graph: Graph, image: Shape) -> dict[int, Shape]:
    """Return the shape of every value of a graph, by value number, from that of the image.

    Raises
    ------
    UnsuitedError
        If a layer pads by more than one position, has a stride above two or pools by maxima.
    """
    shapes = {0: image}
    for step in graph.steps:
        source = shapes[step.source]
        if isinstance(step, Pool):
            if step.window:
                raise UnsuitedError("engine sparse does not support maximum pooling")
            shapes[step.target] = Shape(source.channels, 1, 1, image.lanes)
            continue
        kernel = step.weight.shape[2]
        if step.padding > 1 or step.stride > 2:
            raise UnsuitedError(f"engine sparse does not support a {kernel}x{kernel} convolution that pads by {step.padding}")
        high, wide = ((size + 2 * step.padding - kernel) // step.stride + 1 for size in (source.rows, source.columns))
        shapes[step.target] = Shape(len(step.weight), high, wide, image.lanes)
    return shapes


def _masks(graph: Graph, shapes: dict[int, Shape]) -> tuple[dict[int, slice], int]:
    slices, words = {}, 0
    for step in graph.steps:
        if isinstance(step, Convolution) and step.relu:
            shape = shapes[step.target]
            size = shape.channels * shape.rows * shape.columns
            slices[step.target] = slice(words, words + size)
            words += size
    return slices, words


def _reads(step: Convolution | Pool) -> list[int]:
    return [step.source] + ([step.residual] if isinstance(step, Convolution) and step.residual is not None else [])


def _forward(
    graph: Graph, shapes: dict[int, Shape], masks: dict[int, slice], buffers: Buffers, maker: TapMaker
) -> tuple[list[Work], int, int]:
    readers = Counter(value for step in graph.steps for value in _reads(step))
    image = buffers.take(shapes[0])
    buffer_of = {0: image}
    work: list[Work] = []
    for step in graph.steps:
        source, target = buffer_of[step.source], buffers.take(shapes[step.target])
        buffer_of[step.target] = target
        if isinstance(step, Pool):
            work.append(Average(source, target, shapes[step.source].channels, masks[step.source]))
        else:
            taps = maker.forward(step, shapes[step.source], shapes[step.target], RELU if step.relu else ADD)
            residual = None if step.residual is None else buffer_of[step.residual]
            work.append(Run(taps, source, target, residual, masks.get(step.target)))
        for value in _reads(step):
            readers[value] -= 1
            if not readers[value]:
                buffers.free.append(buffer_of[value])
    return work, image, buffer_of[graph.steps[-1].target]


def _backward(
    graph: Graph, shapes: dict[int, Shape], masks: dict[int, slice], buffers: Buffers, maker: TapMaker
) -> tuple[list[Work], int, int]:
    """Plan the gradients of all values, the last first; the gradient of a ReLU's output is stored as that of the ReLU's input."""
    logits_gradient = buffers.take(shapes[graph.steps[-1].target])
    # The buffer of each value's gradient. Values share a buffer if a residual passes its gradient on unchanged.
    buffer_of = {graph.steps[-1].target: logits_gradient}
    work: list[Work] = []
    for value in reversed(range(graph.steps[-1].target)):
        readers = [step for step in graph.steps if value in _reads(step)]
        convolutions = [step for step in readers if isinstance(step, Convolution) and step.source == value]
        residuals = [step for step in readers if isinstance(step, Convolution) and step.residual == value]
        pools = [step for step in readers if isinstance(step, Pool)]
        mask = masks.get(value)
        if pools:
            if len(readers) > 1 or mask is None:
                raise UnsuitedError("engine sparse supports pooling of the last block only")
            target = buffers.take(shapes[value])
            work.append(Average(buffer_of[pools[0].target], target, shapes[value].channels, mask))
        elif not convolutions:
            if len(residuals) != 1 or mask is not None:
                raise UnsuitedError("engine sparse does not support this residual connection")
            buffer_of[value] = buffer_of[residuals[0].target]
            continue
        else:
            residual = buffer_of[residuals[0].target] if residuals else None
            for step in convolutions:
                is_last = step is convolutions[-1]
                target = buffers.take(shapes[value])
                end = MASKED if is_last and mask is not None else ADD
                for taps in maker.backward(step, shapes[value], shapes[step.target], end):
                    work.append(Run(taps, buffer_of[step.target], target, residual, mask if end == MASKED else None))
                if residual is not None and not (residuals and residual == buffer_of[residuals[0].target]):
                    buffers.free.append(residual)
                residual = target
        buffer_of[value] = target
        finished = {buffer_of[step.target] for step in readers}
        still_needed = {
            buffer_of[step.target]
            for earlier in range(value)
            for step in graph.steps
            if earlier in _reads(step) and step.target in buffer_of
        }
        buffers.free += sorted(finished - still_needed)
    return work, logits_gradient, buffer_of[0]
