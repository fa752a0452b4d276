"""What the runner costs over the attacks it runs, and what a second worker gives: python benchmarks/runner.py.

Overhead: suite quick's attacks on one model and one block of the protocol, 250 images; the clock is read around the attacks, and around
the model inside them, so that gates, meter, referee and store are told from the attack in one and the same run. On a few survivors the
meter weighs more: the same is printed for the quick suite's own 40 images. Workers: suite main's attacks but AutoAttack, a block each for
five models, with one worker and with two, alternating, wall time, start of the processes included. Twenty minutes on two cores.
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
from harness.attacks.spec import AttackResult
from harness.evaluation.meter import Meter
from harness.runner.execute import execute
from harness.runner.plan import Plan, plan_suite
from harness.runner.store import Store
from harness.runner.suite import get_suite

MODEL = "cifar10-rn8w32-pruned-binary-k05-p01"
# Images of a block of the protocol, and of the quick suite.
BLOCK, QUICK = 250, 40
OTHERS = ("cifar10-rn8w32-dense-binary", "cifar10-rn8w28-dense", "cifar10-rn8w32-rst-k10", "cifar10-rn8w32-hydra-k10")
PAIRS = 2


def overhead(n: int) -> str:
    """The share of the runner in the processor time of units of n images."""
    plan = plan_suite(get_suite("quick"), n=n)
    units = tuple(unit for unit in plan.units if unit.record.id == MODEL)
    spent = {"attack": 0.0, "meter": 0.0, "model": 0.0}
    run: Callable[..., AttackResult] = attacks.run
    forward, count = Meter.forward, Meter._count_backward

    def clocked(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any, **named: Any) -> Any:
            begun = time.process_time()
            try:
                return work(*given, **named)
            finally:
                spent[name] += time.process_time() - begun

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
            begun = time.process_time()
            execute(Plan(units), Store(Path(folder)))
            total = time.process_time() - begun
    finally:
        attacks.run, Meter.forward, Meter._count_backward = run, forward, count  # type: ignore[method-assign]
    bare = spent["attack"] - (spent["meter"] - spent["model"])
    share = 100 * (total / bare - 1)
    spent_on = f"{total:.1f} s of processor time, {bare:.1f} s of it the attacks"
    return f"{len(units)} units of {MODEL}, {n} images each: {spent_on}; overhead {share:.2f} %"


def workers() -> str:
    """Wall time with one worker over that with two."""
    suite = get_suite("main").model_copy(update={"models": [MODEL, *OTHERS]})
    plan = Plan(tuple(unit for unit in plan_suite(suite).units if unit.attack.name != "autoattack"))

    def wall(number: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            execute(plan, Store(Path(folder)), workers=number, executor="processes")
            return time.perf_counter() - begun

    ratios = [wall(1) / wall(2) for _ in range(PAIRS)]
    return f"{len(plan.units)} units: two workers are {median(ratios):.2f} times as fast as one ({min(ratios):.2f} to {max(ratios):.2f})"


if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in (partial(overhead, BLOCK), partial(overhead, QUICK), workers):
        sys.stdout.write(line() + "\n")
        sys.stdout.flush()
