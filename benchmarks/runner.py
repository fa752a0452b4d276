"""Cost of the runner in addition to the attacks, and speed-up by a second worker: python benchmarks/runner.py.

Overhead: suite quick's attacks on one model and one block of the protocol, 250 images. The attacks, and the model inside them, are timed
in the same run, so that gates, meter, referee and store can be separated from the attack. With few survivors the meter weighs more;
therefore the same is printed for the quick suite's own 40 images. Workers: suite main's attacks except AutoAttack, one block for each of
five models, with one worker and with two, alternating; wall time, including the start of the processes. Twenty minutes on two cores.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from harness import attacks
from harness.attacks.common import AttackResult
from harness.evaluation.meter import Meter
from harness.runner.execute import execute
from harness.runner.plan import Plan, plan_suite
from harness.runner.store import Store
from harness.runner.suite import get_suite

MODEL = "cifar10-rn8w32-pruned-binary-k05-p01"
# Number of images in a block of the protocol, and in the quick suite.
BLOCK, QUICK = 250, 40
OTHERS = ("cifar10-rn8w32-dense-binary", "cifar10-rn8w28-dense", "cifar10-rn8w32-rst-k10", "cifar10-rn8w32-hydra-k10")
PAIRS = 2


def overhead(n: int) -> str:
    """Return a sentence about the runner's overhead: processor time in addition to the attacks, for units of n images."""
    plan = plan_suite(get_suite("quick"), n=n)
    units = tuple(unit for unit in plan.units if unit.record.id == MODEL)
    seconds = {"attack": 0.0, "meter": 0.0, "model": 0.0}
    run: Callable[..., AttackResult] = attacks.run
    forward, count = Meter.forward, Meter._count_backward

    def clocked(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return work(*args, **kwargs)
            finally:
                seconds[name] += time.process_time() - start

        return timed

    def metered(self: Meter, queries: torch.Tensor) -> torch.Tensor:
        inner = self.model.forward
        self.model.forward = clocked("model", inner)
        try:
            return clocked("meter", forward)(self, queries)
        finally:
            self.model.forward = inner

    attacks.run, Meter.forward, Meter._count_backward = clocked("attack", run), metered, clocked("meter", count)  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            execute(Plan(units), Store(Path(folder)))
            total = time.process_time() - start
    finally:
        attacks.run, Meter.forward, Meter._count_backward = run, forward, count  # type: ignore[method-assign]
    attack_only = seconds["attack"] - (seconds["meter"] - seconds["model"])
    share = 100 * (total / attack_only - 1)
    summary = f"{total:.1f} s of processor time, {attack_only:.1f} s of it the attacks"
    return f"{len(units)} units of {MODEL}, {n} images each: {summary}; overhead {share:.2f} %"


def workers() -> str:
    """Return a sentence about the ratio of the wall time with one worker to that with two."""
    suite = get_suite("main").model_copy(update={"models": [MODEL, *OTHERS]})
    plan = Plan(tuple(unit for unit in plan_suite(suite).units if unit.attack.name != "autoattack"))

    def wall(worker_count: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            execute(plan, Store(Path(folder)), workers=worker_count, executor="processes")
            return time.perf_counter() - start

    ratios = [wall(1) / wall(2) for _ in range(PAIRS)]
    return f"{len(plan.units)} units: two workers are {median(ratios):.2f} times as fast as one ({min(ratios):.2f} to {max(ratios):.2f})"


if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in (partial(overhead, BLOCK), partial(overhead, QUICK), workers):
        sys.stdout.write(line() + "\n")
        sys.stdout.flush()
