"""The order of work of the sparse engine for images of one size: which buffers are read and written, forwards and backwards."""

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
    """One call of `kernels.convolve`: numbers of buffers, and the part of the masks it writes or reads."""

    taps: Taps
    source: int
    target: int
    residual: int | None = None
    mask: slice | None = None


@dataclass(frozen=True)
class Average:
    """Average pooling; backwards, the gradient spread again through the mask of what was pooled."""

    source: int
    target: int
    channels: int
    mask: slice


Work = Run | Average


@dataclass
class Buffers:
    """Numbered buffers by shape; what is given back is used again."""

    shapes: list[Shape] = field(default_factory=list)
    free: list[int] = field(default_factory=list)

    def take(self, shape: Shape) -> int:
        """A buffer of that shape that nobody holds, the one given back last: it may still be cached."""
        for number in reversed(self.free):
            if self.shapes[number] == shape:
                self.free.remove(number)
                return number
        self.shapes.append(shape)
        return len(self.shapes) - 1


@dataclass(frozen=True, eq=False)
class Schedule:
    """Work for `lanes` images at a time, and the buffers for it.

    Attributes
    ----------
    forward, backward : list
        In order.
    shapes : list of Shape
        Of the buffers.
    image, logits, logits_gradient, image_gradient : int
        The buffers that the first and the last work of either direction read and write.
    masks : int
        Words of 16 bits that the forward work leaves for the backward: which sums were positive.
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
    """Makes the taps of a convolution, forwards and backwards."""

    def forward(self, step: Convolution, source: Shape, target: Shape, end: int) -> Taps:
        """Those that compute the convolution's output."""

    def backward(self, step: Convolution, source: Shape, target: Shape, end: int) -> list[Taps]:
        """Those that compute the gradient by the convolution's source."""


class FixedTaps:
    """The taps of a graph's own weights."""

    def forward(self, step: Convolution, source: Shape, target: Shape, end: int) -> Taps:
        """As of `TapMaker`, of the channels that something depends on."""
        live = np.flatnonzero(step.live if step.live is not None else np.ones(len(step.weight), dtype=bool))
        return forward_taps(step.weight, step.ones, step.bias, step.stride, step.padding, source, target, live, end)

    def backward(self, step: Convolution, source: Shape, target: Shape, end: int) -> list[Taps]:
        """As of `TapMaker`."""
        return backward_taps(step.weight, step.stride, step.padding, source, target, end)


def make_schedule(graph: Graph, rows: int, columns: int, lanes: int, taps: TapMaker | None = None) -> Schedule:
    """Plan for images of `rows` x `columns` pixels, `lanes` at a time, with the taps that `taps` makes (default: `FixedTaps`).

    Raises
    ------
    UnsuitedError
        Where a layer pads by more than one position or pools by maxima: the stems of ImageNet networks.
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
    """The shape of every value of a graph, from that of the image.

    Raises
    ------
    UnsuitedError
        As of `make_schedule`.
    """
    shapes = {0: image}
    for step in graph.steps:
        source = shapes[step.source]
        if isinstance(step, Pool):
            if step.window:
                raise UnsuitedError("engine sparse has no maximum pooling")
            shapes[step.target] = Shape(source.channels, 1, 1, image.lanes)
            continue
        kernel = step.weight.shape[2]
        if step.padding > 1 or step.stride > 2:
            raise UnsuitedError(f"engine sparse has no {kernel}x{kernel} convolution that pads by {step.padding}")
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
    """The gradient by every value, the last first. One that a ReLU gave is kept as the gradient by what went into the ReLU."""
    logits_gradient = buffers.take(shapes[graph.steps[-1].target])
    # The gradient's buffer of each value, and how many values share it: a residual passes its gradient on as it is.
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
                raise UnsuitedError("engine sparse pools nothing but the last block")
            target = buffers.take(shapes[value])
            work.append(Average(buffer_of[pools[0].target], target, shapes[value].channels, mask))
        elif not convolutions:
            if len(residuals) != 1 or mask is not None:
                raise UnsuitedError("engine sparse does not know this residual")
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
