"""Try other constants for the rule by which the sparse engine runs a layer: python -m benchmarks.rule. About three minutes on one core.

The constants are in `model_zoo.kernels.taps`; each is set to other values. First, the share of kept weights from which four output channels
share what they read (`DENSE_FROM`): layers of ResNet-34's shapes with a random mask of each density, run both ways in turn. Then, how many
input channels are read before the next (`CACHED_CHANNELS`), and how many additions have to pay for interrupting a sum (`PAYING_TAPS`):
forward pass and input gradient of the whole network. Prints medians of processor time on one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import numpy as np
import torch

from benchmarks.common import print_line
from benchmarks.engine import BATCH, both, resnet34
from harness import datasets, engines
from model_zoo.kernels import taps
from model_zoo.kernels.convolve import RELU, convolve
from model_zoo.kernels.runner import aligned
from model_zoo.kernels.taps import Shape, forward_taps

LAYERS = ((64, 32), (128, 16), (256, 8), (512, 4))
DENSITIES = (0.01, 0.1, 0.3, 0.5, 0.65, 0.75, 0.85, 1.0)
ROUNDS = 7


@contextmanager
def changed(name: str, value: float) -> Iterator[None]:
    """Set a constant of the rule to another value inside the block."""
    before = getattr(taps, name)
    setattr(taps, name, value)
    try:
        yield
    finally:
        setattr(taps, name, before)


def alternating(*contestants: Callable[[], None]) -> list[float]:
    """Return the median seconds of each function; the functions run in turn."""
    seconds: list[list[float]] = [[] for _ in contestants]
    for work in contestants:
        work()
    for _ in range(ROUNDS):
        for times, work in zip(seconds, contestants, strict=True):
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
    return [median(times) for times in seconds]


def layer(channels: int, size: int, density: float, dense_from: float) -> Callable[[], None]:
    """Return a function that runs a 3 x 3 convolution with ReLU on 16 images, with `dense_from` as threshold for dense tiles."""
    shape = Shape(channels, size, size)
    random = np.random.default_rng(channels)
    weight = np.where(random.random((channels, channels, 3, 3)) < density, random.choice([-1.0, 1.0], (channels, channels, 3, 3)), 0.0)
    with changed("DENSE_FROM", dense_from):
        layer_taps = forward_taps(weight, None, np.zeros(channels), 1, 1, shape, shape, np.arange(channels), RELU)
    x, out = (aligned(int(np.prod(shape.stored))) for _ in range(2))
    mask = np.zeros(channels * size * size, np.uint16)
    x[:] = random.standard_normal(len(x))

    def work() -> None:
        convolve(
            x,
            out,
            x[:0],
            mask,
            layer_taps.bias,
            layer_taps.offsets,
            layer_taps.weights,
            layer_taps.starts,
            layer_taps.channels,
            layer_taps.shape,
            layer_taps.at,
        )

    return work


def densities() -> None:
    """Print one line per layer shape: how many times as fast dense tiles are as sparse ones."""
    print_line(f"Dense tiles, times as fast as sparse ones; the rule takes them from {taps.DENSE_FROM} on.\n")
    print_line("| layer | " + " | ".join(f"keeps {density}" for density in DENSITIES) + " |")
    print_line("| --- |" + " --- |" * len(DENSITIES))
    for channels, size in LAYERS:
        speedups = []
        for density in DENSITIES:
            sparse, dense = alternating(layer(channels, size, density, 2.0), layer(channels, size, density, 0.0))
            speedups.append(f"{sparse / dense:.2f}")
        print_line(f"| {channels} channels, {size} x {size} | {' | '.join(speedups)} |")


def groups() -> None:
    """Time ResNet-34 with other values of the two constants that split input channels into groups."""
    images = datasets.load("cifar10-sample").first(BATCH).tensors()[0]
    model = resnet34(0.1)
    for name, values in (("CACHED_CHANNELS", (2, 4, 8, 16, 32, 64, 512)), ("PAYING_TAPS", (1, 4, 8, 12, 16, 24, 48))):
        runs = []
        for value in values:
            with changed(name, value):
                network = engines.build(model, "sparse")
                network(images[:1])
            runs.append(both(network, images))
        seconds = alternating(*runs)
        listing = ", ".join(f"{value}: {1e3 * elapsed / BATCH:.2f}" for value, elapsed in zip(values, seconds, strict=True))
        print_line(f"\n{name} (the rule has {getattr(taps, name)}), ResNet-34, keep 0.01, p = 0.1, ms an image: {listing}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    densities()
    groups()
