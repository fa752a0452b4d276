"""Functions shared by several benchmarks: alternating timings, a processor's limits, and the roofline figure."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import torch
from numba import njit

from model_zoo.kernels import runner as kernel_runner
from model_zoo.kernels.convolve import ADD, LANES, convolve, item_bytes
from model_zoo.kernels.runner import aligned
from model_zoo.kernels.schedule import Run, Schedule
from model_zoo.kernels.taps import Shape, forward_taps

ROUNDS = 5
# Layers with fewer additions per 16 images are left out of the roofline, because the call costs as much as the work.
LEAST = 1e5 * LANES


def print_line(text: str) -> None:
    """Print a line and flush."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def clock() -> Callable[[], float]:
    """Return the clock that benchmarks use: processor time on one thread, wall time on several."""
    return time.process_time if torch.get_num_threads() == 1 else time.perf_counter


def ratios(first: Callable[[], Any], second: Callable[[], Any], rounds: int = ROUNDS) -> tuple[float, float, list[float]]:
    """Return the median seconds of two functions that run in turn, and the ratios of neighbouring runs; both run once before timing."""
    read_clock = clock()
    seconds: tuple[list[float], list[float]] = ([], [])
    for work in (first, second):
        work()
    for _ in range(rounds):
        for times, work in zip(seconds, (first, second), strict=True):
            start = read_clock()
            work()
            times.append(read_clock() - start)
    return median(seconds[0]), median(seconds[1]), [a / b for a, b in zip(*seconds, strict=True)]


def spread(values: list[float]) -> str:
    """Format the median with minimum and maximum, such as 10.2 (9.9 to 10.4)."""
    return f"{median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


@njit  # type: ignore[untyped-decorator]
def _repeat(times, x, out, no_residual, bits, bias, offsets, weights, starts, channels, shape, at):  # type: ignore[no-untyped-def]
    for _ in range(times):
        convolve(x, out, no_residual, bits, bias, offsets, weights, starts, channels, shape, at)


def limits() -> tuple[float, float]:
    """Measure the processor's limits on one thread.

    Returns additions per second of the kernel on eight channels in the first-level cache, and bytes per second of a copy larger than any
    cache.
    """
    source, target, times = Shape(8, 2, 8), Shape(32, 2, 8), 5000
    weight = np.ones((target.channels, source.channels, 3, 3))
    weight[:, :, 0] = 0.0  # two thirds are kept, for which the rule chooses sparse tiles
    taps = forward_taps(weight, None, np.zeros(target.channels), 1, 1, source, target, np.arange(target.channels), ADD)
    x, out = (aligned(int(np.prod(shape.stored))) for shape in (source, target))
    arguments = (
        x,
        out,
        x[:0],
        np.zeros(0, np.uint16),
        taps.bias,
        taps.offsets,
        taps.weights,
        taps.starts,
        taps.channels,
        taps.shape,
        taps.at,
    )
    _repeat(1, *arguments)
    rates = []
    for _ in range(ROUNDS):
        start = time.process_time()
        _repeat(times, *arguments)
        rates.append(times * taps.additions * LANES / (time.process_time() - start))
    origin, destination = (np.ones(2**26, np.float32) for _ in range(2))
    copies = []
    for _ in range(ROUNDS):
        start = time.process_time()
        np.copyto(destination, origin)
        copies.append(2 * origin.nbytes / (time.process_time() - start))
    return median(rates), median(copies)


@dataclass(frozen=True)
class Point:
    """Measurement of one layer in one pass: additions, bytes of the values read and written, and seconds."""

    kind: str
    additions: float
    moved: float
    seconds: float


def schedule_points(schedule: Schedule, work: Callable[[], Any], kinds: tuple[str, str] = ("forward", "input gradient")) -> list[Point]:
    """Return points of the layers of a schedule, for one cell of images each, timed on one thread while `work` runs the schedule."""
    seconds: dict[int, list[float]] = {}
    run = kernel_runner.Runner._run

    def clocked(runner: kernel_runner.Runner, items: list[Any], buffers: list[np.ndarray], masks: np.ndarray, back: bool) -> None:
        for item in items:
            start = time.process_time()
            run(runner, [item], buffers, masks, back)
            seconds.setdefault(id(item), []).append(time.process_time() - start)

    with mock.patch.object(kernel_runner.Runner, "_run", clocked):
        for _ in range(ROUNDS):
            work()
    points = []
    for kind, items in zip(kinds, (schedule.forward, schedule.backward), strict=True):
        for item in items:
            if isinstance(item, Run):
                values = [item.source, item.target] + ([item.residual] if item.residual is not None else [])
                shapes = [schedule.shapes[value] for value in values]
                moved = sum(item_bytes(shape.lanes) * int(np.prod(shape.stored)) for shape in shapes)
                points.append(Point(kind, shapes[0].lanes * item.taps.additions, moved, median(seconds[id(item)])))
    return points


def roofline(points: Sequence[Point], path: Path, salt: str) -> str:
    """Draw each layer's additions per second against its additions per byte of values, and return a sentence about it.

    Parameters
    ----------
    points : sequence of Point
        Measurements; every kind has one colour, in order of first appearance.
    path : Path
        The SVG file to write.
    salt : str
        Salt of the ids in the file, which makes them reproducible.
    """
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    peak, memory = limits()
    large = [point for point in points if point.additions > LEAST]
    figure, axes = pyplot.subplots(figsize=(6.0, 4.0), layout="constrained")
    for kind in dict.fromkeys(point.kind for point in large):
        members = [point for point in large if point.kind == kind]
        rates = [point.additions / point.seconds / 1e9 for point in members]
        axes.scatter([point.additions / point.moved for point in members], rates, s=14, label=kind)
    intensity = np.geomspace(0.3, 60.0, 50)
    axes.plot(intensity, np.minimum(intensity * memory, peak) / 1e9, color="black", label="limit of this machine in float32")
    axes.set(xscale="log", yscale="log", xlabel="additions for a byte of values read and written", ylabel="additions a second, 10⁹")
    axes.legend(frameon=False)
    pyplot.rcParams["svg.hashsalt"] = salt
    figure.savefig(path, metadata={"Date": None})
    overall = sum(point.additions for point in large) / sum(point.seconds for point in large)
    return (
        f"first-level cache: {peak / 1e9:.1f} G additions/s; copy: {memory / 1e9:.1f} GB/s; layers of more than 0.1 M additions reach "
        f"{overall / 1e9:.1f} G additions/s together, {100 * overall / peak:.0f} % of the former; figure in {path.name}"
    )
