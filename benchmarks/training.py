"""Training time saved by engine sparse: python -m benchmarks.training [--threads N ...] [--steps N] [--warmup N] [--arrays FILE].

Times whole training steps on engine dense, as the trainer runs it (bfloat16 if the processor computes in it), and on engine sparse: PGD-10,
training pass, optimiser and refresh, batch 128, without the hold-out. The engines take turns on the same batches; the result is the median
of the ratios of neighbouring steps, with minimum and maximum. Processor time on one thread, wall time on several, for which
OMP_WAIT_POLICY=PASSIVE keeps idle threads from spinning. Before timing, the network is trained for `--warmup` steps on engine sparse, and
the dense engine starts with a copy of its weights and of the optimiser's state.

A second table shows how the time of a step is divided, on one thread, and docs/training-speed.svg is drawn for the first model. Images are
those of FILE (.npz, x uint8 [N, 32, 32, 3], y), or the 1,000 shipped ones, repeated. Prints Markdown. The whole takes about an hour and a
half; `--models` selects models by the beginning of their names.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks.common import Point, print_line, ratios, roofline, schedule_points, spread
from harness import datasets
from model_zoo.arrays import read_arrays
from model_zoo.kernels import batch_pass
from model_zoo.kernels.convolve import LANES
from model_zoo.kernels.live_taps import LiveTaps
from model_zoo.kernels.taps import Taps
from model_zoo.training import weight_sources
from model_zoo.training.inner_attack import input_gradients_only
from model_zoo.training.recipe import Optimiser, Recipe, recipe_path
from model_zoo.training.sampler import Batch
from model_zoo.training.sharing import Share
from model_zoo.training.sparse_engine import SparseEngine
from model_zoo.training.trainer import _Run

FIGURE = Path(__file__).parents[1] / "docs" / "training-speed.svg"
BATCH, RATE = 128, 0.003
# Number of steps whose parts are timed.
CLOCKED = 3
# Parts of a step; their exclusive times add up to the time of the step.
PARTS = ("attack", "forward", "backward", "weight gradient", "selection", "taps", "optimiser")
PAPER, SMALL = "cifar10-rn18-pruned-binary-k01-p01", "cifar10-rn8w32-pruned-binary-k10-p01"
# Recipe, keep ratio, p.
MODELS: dict[str, tuple[str, float, float]] = {
    "ResNet-18, keep 0.01, p = 0.1": (PAPER, 0.01, 0.1),
    "ResNet-18, keep 0.01, p = 1": (PAPER, 0.01, 1.0),
    "ResNet-18, keep 0.05, p = 0.8": (PAPER, 0.05, 0.8),
    "ResNet-8, width 32, keep 0.01, p = 0.1": (SMALL, 0.01, 0.1),
    "ResNet-8, width 32, keep 0.05, p = 0.1": (SMALL, 0.05, 0.1),
    "ResNet-8, width 32, keep 0.1, p = 0.1": (SMALL, 0.1, 0.1),
}


def recipe_of(name: str) -> Recipe:
    """Return a shipped recipe with this benchmark's attack and optimiser."""
    shipped, keep_ratio, power = MODELS[name]
    recipe = Recipe.load(recipe_path(shipped))
    return dataclasses.replace(
        recipe,
        options={**recipe.options, "keep_ratio": keep_ratio, "allocation_power": power},
        data=dataclasses.replace(recipe.data, hold_out=0),
        attack=dataclasses.replace(recipe.attack, step="2/255", steps=10, faithful=False),
        optimiser=Optimiser("adam", RATE, epochs=1, batch=BATCH),
        select="last",
    )


class Contestant:
    """Training run whose steps are taken one by one."""

    def __init__(self, recipe: Recipe, images: np.ndarray, labels: np.ndarray, engine: str) -> None:
        self.run = _Run(recipe, images, labels, torch.device("cpu"), Share(), False, engine, None)
        self.run.controller.at_epoch(0, 1)
        self.run.engine.refresh()
        self.run.model.train()

    def batches(self) -> Iterator[Batch]:
        """Yield batches without end, epoch after epoch."""
        while True:
            yield from self.run.sampler.epoch()

    def step(self, batch: Batch) -> None:
        """Run one whole step of the trainer."""
        run = self.run
        with run.engine.arithmetic():
            loss, _ = run.method.loss(batch)
            run.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            run.optimiser.step()
            run.engine.refresh()

    def begin_as(self, source: Contestant) -> None:
        """Copy another contestant's weights and optimiser state, each tensor in the memory format of its parameter."""
        self.run.model.load_state_dict(source.run.model.state_dict())
        state = copy.deepcopy(source.run.optimiser.state_dict())
        for parameter, tensors in zip(self.run.model.parameters(), state["state"].values(), strict=True):
            for name, tensor in tensors.items():
                if tensor.shape == parameter.shape:
                    tensors[name] = torch.empty_like(parameter).copy_(tensor)
        self.run.optimiser.load_state_dict(state)
        self.run.engine.refresh()


class Parts:
    """Exclusive seconds of nested calls per part, on one thread."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner_seconds: list[float] = []

    def clocked(self, part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return `work`, timed: its time, less that of timed calls inside it, is added to `part`."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner_seconds.append(0.0)
            start = time.process_time()
            try:
                return work(*args, **kwargs)
            finally:
                elapsed = time.process_time() - start
                self.seconds[part] += elapsed - self._inner_seconds.pop()
                if self._inner_seconds:
                    self._inner_seconds[-1] += elapsed

        return timed


@contextmanager
def clocked(contestant: Contestant, parts: Parts) -> Iterator[None]:
    """Time the parts of a contestant's steps inside the block."""
    run = contestant.run
    with ExitStack() as stack:

        def patch(owner: Any, name: str, part: str) -> None:
            stack.enter_context(mock.patch.object(owner, name, parts.clocked(part, getattr(owner, name))))

        # A method's setting is frozen, so its training pass is timed in a copy.
        setting = dataclasses.replace(run.method.setting, trained=parts.clocked("forward", run.method.setting.trained))
        stack.enter_context(mock.patch.object(run.method, "setting", setting))
        patch(run.method, "loss", "attack")
        patch(torch.Tensor, "backward", "backward")
        patch(run.engine, "refresh", "selection")
        patch(run.optimiser, "step", "optimiser")
        patch(batch_pass, "weight_gradient", "weight gradient")
        patch(weight_sources, "by_scores", "weight gradient")
        patch(LiveTaps, "fill", "taps")
        patch(batch_pass.BatchPass, "fill", "taps")
        yield


def where_time_goes(contestant: Contestant, batches: Iterator[Batch]) -> dict[str, float]:
    """Return the median seconds of every part of a step."""
    step_times = []
    for _ in range(CLOCKED):
        parts = Parts()
        with clocked(contestant, parts):
            contestant.step(next(batches))
        step_times.append(parts.seconds)
    return {part: median(times[part] for times in step_times) for part in PARTS}


def layer_points(contestant: Contestant, batch: Batch) -> list[Point]:
    """Return points of the sparse engine's layers, for 16 images each, in the attack's passes and in the training pass."""
    engine = contestant.run.engine
    assert isinstance(engine, SparseEngine)

    def attack() -> None:
        with input_gradients_only(engine.model):
            point = batch.images.clone().requires_grad_(True)
            torch.autograd.grad(engine.attacked(point).sum(), point)

    attack()
    frozen = engine._sizes[batch.images.shape[2], batch.images.shape[3], engine._attack_lanes]
    points = schedule_points(frozen._runner.schedule, attack, ("attack, forward", "attack, input gradient"))
    timings: dict[int, list[tuple[float, int]]] = {}
    convolve = batch_pass._convolve

    def timed(source: np.ndarray, target: np.ndarray, taps: Taps, residual: np.ndarray) -> None:
        start = time.process_time()
        convolve(source, target, taps, residual)
        timings.setdefault(id(taps), []).append((time.process_time() - start, source.nbytes + target.nbytes + residual.nbytes))

    with mock.patch.object(batch_pass, "_convolve", timed):
        for _ in range(3):
            engine.trained(batch.images).sum().backward()
    for place in next(iter(engine._passes.values())).places.values():
        for kind, taps in [
            ("training pass, forward", place.forward[0]),
            *(("training pass, backward", entry) for entry, _ in place.backward),
        ]:
            if id(taps) in timings:
                seconds, moved = (median(entry) for entry in zip(*timings[id(taps)], strict=True))
                points.append(Point(kind, LANES * taps.additions, moved, seconds))
    return points


def measure(name: str, images: np.ndarray, labels: np.ndarray, threads: list[int], steps: int, warmup: int, figure: bool) -> list[str]:
    """Print one row of the first table per number of threads, and return the rows of the second table."""
    recipe = recipe_of(name)
    torch.set_num_threads(max(threads))
    sparse = Contestant(recipe, images, labels, "sparse")
    batches = sparse.batches()
    for _ in range(warmup):
        sparse.step(next(batches))
    dense = Contestant(recipe, images, labels, "dense")
    # Before the first step the optimiser has no state to copy.
    if warmup:
        dense.begin_as(sparse)
    pairs: list[Batch] = []

    def take(contestant: Contestant) -> Callable[[], None]:
        def work() -> None:
            # Both contestants see the same batches, one after the other.
            if not pairs:
                pairs.extend([next(batches)] * 2)
            contestant.step(pairs.pop())

        return work

    for thread_count in threads:
        torch.set_num_threads(thread_count)
        dense_seconds, sparse_seconds, speedups = ratios(take(dense), take(sparse), steps)
        print_line(f"| {name} | {thread_count} | {dense_seconds:.3f} | {sparse_seconds:.3f} | {spread(speedups)} |")
    torch.set_num_threads(1)
    rows = []
    for contestant in (dense, sparse):
        seconds = where_time_goes(contestant, batches)
        cells = [f"{1e3 * seconds[part]:.0f}" if seconds[part] else "-" for part in PARTS]
        rows.append(f"| {name} | {contestant.run.engine.name} | {' | '.join(cells)} | {1e3 * sum(seconds.values()):.0f} |")
    if figure:
        rows.append(roofline(layer_points(sparse, next(batches)), FIGURE, "training-speed"))
    return rows


def main() -> None:
    """Print both tables and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=20, help="measured pairs of steps (default: 20)")
    parser.add_argument("--warmup", type=int, default=200, help="steps before (default: 200)")
    parser.add_argument("--arrays", type=Path, help="an .npz file with x and y (default: the sample that ships)")
    parser.add_argument("--models", nargs="+", default=[""], help="beginnings of names (default: all)")
    options = parser.parse_args()
    if options.arrays is not None:
        images, labels = read_arrays(options.arrays)
        source = f"{len(images)} images of {options.arrays.name}"
    else:
        sample = datasets.load("cifar10-sample")
        images, labels, source = sample.images, sample.labels, f"the {len(sample.images)} sample images that ship, over and over"
    chosen = [name for name in MODELS if name.startswith(tuple(options.models))]
    print_line(f"Steps of {BATCH} images with PGD-10, after {options.warmup} steps; {options.steps} pairs; {source}.\n")
    print_line("| model | threads | dense, s per step | sparse, s per step | sparse, times as fast |\n| --- | --- | --- | --- | --- |")
    rows: list[str] = []
    figure = ""
    for name in chosen:
        lines = measure(name, images, labels, options.threads, options.steps, options.warmup, figure=name == chosen[0])
        rows += lines[:2]
        figure = figure or "".join(lines[2:])
    print_line(f"\nWhere the time of a step goes, milliseconds on one thread:\n\n| model | engine | {' | '.join(PARTS)} | sum |")
    print_line("| --- |" + " --- |" * (len(PARTS) + 2))
    for row in rows:
        print_line(row)
    print_line(f"\n{figure}")


if __name__ == "__main__":
    main()
