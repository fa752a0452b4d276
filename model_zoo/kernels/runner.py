"""Runner of a schedule on batches of images: buffers, threads and the order of calls."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from model_zoo.kernels import convolve as kernels
from model_zoo.kernels import short_cells
from model_zoo.kernels.graph import Graph
from model_zoo.kernels.schedule import Average, Schedule, Work

# Float32 numbers per cache line.
LINE = 16
_NO_MASK = {np.dtype(kind): np.zeros(0, kind) for kind in (np.uint16, np.uint32)}


class FrozenNetwork(torch.autograd.Function):
    """Logits of a runner's frozen network, differentiable with respect to the images only."""

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, runner: Runner) -> torch.Tensor:
        """Return the logits, float32 [N, classes], of images float32 [N, C, H, W]."""
        logits, masks = runner.forward(images.detach().contiguous().numpy(), keep=ctx.needs_input_grad[0])
        ctx.runner, ctx.masks, ctx.size = runner, masks, images.shape
        return torch.from_numpy(logits)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return the gradient with respect to the images from that with respect to the logits."""
        return torch.from_numpy(ctx.runner.backward(gradient.contiguous().numpy(), ctx.masks, tuple(ctx.size))), None


class Runner:
    """Executor of a schedule, with buffers that are reused between calls.

    Parameters
    ----------
    graph : Graph
        Provides the normalisation of the images.
    schedule : Schedule
        Work for `lanes` images at a time.
    lanes : int
        Images per cell. With `SHORT` of them numbers are float16: activations and gradients keep three digits, and a gradient beyond the
        range of float16 counts as zero.
    """

    def __init__(self, graph: Graph, schedule: Schedule, lanes: int) -> None:
        self.schedule, self.lanes = schedule, lanes
        self.mean, self.deviation = graph.mean.astype(np.float32), graph.deviation.astype(np.float32)
        self._is_short = lanes == kernels.SHORT
        self._cells: Any = short_cells if self._is_short else kernels
        self._mask_type = np.dtype(np.uint32 if self._is_short else np.uint16)
        self._idle_buffers: list[list[np.ndarray]] = []

    def forward(self, images: np.ndarray, keep: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the logits [N, classes] of float32 images [N, C, H, W], and the masks that `backward` needs (None unless `keep`)."""
        shape = self.schedule.shapes[self.schedule.logits]
        logits = np.empty((len(images), shape.channels), np.float32)
        masks = np.empty((-(-len(images) // self.lanes), self.schedule.masks), self._mask_type) if keep else None
        no_mask = _NO_MASK[self._mask_type]

        def work(begin: int, buffers: list[np.ndarray]) -> None:
            part = slice(begin, begin + self.lanes)
            self._cells.pack(images[part], buffers[self.schedule.image], self.mean, self.deviation)
            self._run(self.schedule.forward, buffers, no_mask if masks is None else masks[begin // self.lanes], is_backward=False)
            logits[part] = self._numbers(buffers[self.schedule.logits])[: shape.channels, 1, 1, : len(logits[part])].T

        self._run_cells(len(images), work)
        return logits, masks

    def backward(self, gradient: np.ndarray, masks: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        """Return the gradient with respect to the images, float32 of shape `size`, from that of the logits, float32 [N, classes]."""
        by_images = np.empty(size, np.float32)
        # Float16 is most precise around one, so each image's gradient is scaled to a maximum of one; float32 gradients are not scaled.
        largest = np.abs(gradient).max(1, keepdims=True) if self._is_short else np.ones((len(gradient), 1), np.float32)
        scale = np.where(largest > 0.0, largest, np.float32(1.0))

        def work(begin: int, buffers: list[np.ndarray]) -> None:
            rows = slice(begin, begin + self.lanes)
            part = gradient[rows] / scale[rows]
            by_logits = self._numbers(buffers[self.schedule.logits_gradient])
            by_logits[: part.shape[1], 1, 1] = 0.0
            by_logits[: part.shape[1], 1, 1, : len(part)] = part.T
            self._run(self.schedule.backward, buffers, masks[begin // self.lanes], is_backward=True)
            self._cells.unpack(buffers[self.schedule.image_gradient], by_images[rows], self.deviation)
            by_images[rows] *= scale[rows, :, None, None]

        self._run_cells(len(gradient), work)
        return by_images

    def _numbers(self, cell: np.ndarray) -> np.ndarray:
        return short_cells.numbers(cell) if self._is_short else cell

    def _run_cells(self, images: int, work: Callable[[int, list[np.ndarray]], None]) -> None:
        begins = range(0, images, self.lanes)
        threads = max(1, min(torch.get_num_threads(), len(begins)))

        def _run_thread(first: int) -> None:
            try:
                buffers = self._idle_buffers.pop()
            except IndexError:
                buffers = self._allocate()
            for begin in begins[first::threads]:
                work(begin, buffers)
            self._idle_buffers.append(buffers)

        in_threads(_run_thread, threads)

    def _allocate(self) -> list[np.ndarray]:
        sizes = [int(np.prod(shape.stored)) for shape in self.schedule.shapes]
        # One aligned allocation for all buffers, for which numpy asks for huge pages.
        memory = aligned(sum(sizes) // 2).view(np.uint16) if self._is_short else aligned(sum(sizes))
        begin, buffers = 0, []
        for shape, size in zip(self.schedule.shapes, sizes, strict=True):
            value = memory[begin : begin + size].reshape(shape.stored)
            self._numbers(value)[-1, 1:-1, 1:-1] = 1.0
            buffers.append(value)
            begin += size
        return buffers

    def _run(self, work: list[Work], buffers: list[np.ndarray], masks: np.ndarray, is_backward: bool) -> None:
        for item in work:
            source, target = buffers[item.source], buffers[item.target]
            if isinstance(item, Average):
                if is_backward:
                    self._cells.spread(source, target, masks[item.mask], item.channels)
                else:
                    self._cells.average(source, target, item.channels)
                continue
            taps = item.taps
            residual = source[:0].reshape(-1) if item.residual is None else buffers[item.residual].reshape(-1)
            mask = masks[:0] if item.mask is None or not masks.size else masks[item.mask]
            kernels.convolve(
                source.reshape(-1), target.reshape(-1), residual, mask,
                taps.bias, taps.offsets, taps.weights, taps.starts, taps.channels, taps.shape, taps.at,
            )  # fmt: skip


@contextmanager
def flush_denormals(flush: bool = True) -> Iterator[None]:
    """Context manager that makes this thread flush numbers below 1.2e-38 to zero, or not, and restores the previous setting on exit.

    Gradients through an untrained network are that small, and processors are slow on such numbers.
    """
    previous = flushes_denormals()
    torch.set_flush_denormal(flush)
    try:
        yield
    finally:
        torch.set_flush_denormal(previous)


def flushes_denormals() -> bool:
    """Return whether this thread flushes numbers below 1.2e-38 to zero."""
    return float(torch.tensor(1e-39) * 1.0) == 0.0


def in_threads(work: Callable[[int], None], threads: int) -> None:
    """Call `work` with 0, 1, ..., threads - 1 in one thread each, the calling thread with 0, and wait for all.

    The other threads treat very small numbers as the caller's thread does, see `flush_denormals`.
    """
    flush = flushes_denormals() if threads > 1 else False

    def _run_flushed(number: int) -> None:
        with flush_denormals(flush):
            work(number)

    futures = [_thread_pool(os.getpid(), threads).submit(_run_flushed, number) for number in range(1, threads)]
    work(0)
    for future in futures:
        future.result()


@lru_cache(maxsize=1)
def _thread_pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return threads that are kept, because starting them costs as much as a small layer; a forked process needs new ones."""
    return ThreadPoolExecutor(threads)


def aligned(size: int) -> np.ndarray:
    """Return a zero-filled float32 buffer of `size` numbers, aligned to a cache line."""
    memory = np.empty(size + LINE, np.float32)
    memory.fill(0.0)
    begin = -memory.ctypes.data // 4 % LINE
    return memory[begin : begin + size]
