"""APGD-CE, APGD-T, FAB-T and Square of our own: what AutoAttack runs, with nothing done twice and every image on its own.

It is written from the papers and stands beside `autoattack`, the package's, which the number called AutoAttack comes from. Outcomes may
differ from the package's: other random numbers, FAB's boundary linearised elsewhere (`fab`), and all targets of an image run side by side.
What an image gets does not depend on its batch, as far as the model's logits do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch

from harness.attacks import pool
from harness.attacks.apgd import APGD
from harness.attacks.fab import FAB
from harness.attacks.memory import Memory
from harness.attacks.parameters import parse
from harness.attacks.passes import Passes
from harness.attacks.progress import counted
from harness.attacks.spec import AttackResult, Flag
from harness.attacks.square import Square
from harness.attacks.standing import CLEAN, Standing
from model_zoo.errors import UsageError
from model_zoo.threat import ThreatModel

PACKAGE = None
VERSION = 1
RESUMABLE = True
# What it runs on where no engine is asked for, see `harness.engines`.
ENGINE = "sparse"

CLASSES_FOR_TARGETED_DLR = 4
COMPONENTS = ("apgd-ce", "apgd-t", "fab-t", "square")


@dataclass(frozen=True)
class Parameters:
    """As those of `autoattack`; `batch_size` is how many runs go on at a time."""

    components: list[str]
    batch_size: int
    targets: int
    apgd_n_iter: int
    apgd_rho: float
    fab_n_iter: int
    fab_alpha_max: float
    fab_eta: float
    fab_beta: float
    square_n_queries: int
    square_p_init: float


def attack(
    model: torch.nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    threat: ThreatModel,
    parameters: Mapping[str, Any],
    seed: int,
    progress: Callable[[float, str], None] | None,
    memory: Memory | None = None,
) -> AttackResult:
    """Run the components in order, each on what the ones before have left, and go on after those that `memory` has.

    An image is left alone once it is broken.
    """
    given = parse(Parameters, parameters, "fast-autoattack")
    with torch.no_grad():
        logits = model(images)
    names = _components(given, logits.shape[1])
    costs = {name: _cost(given, name, logits.shape[1]) for name in names}
    total = sum(cost.forwards for cost in costs.values())
    so_far = Standing.begin(images, names, memory)
    if not so_far.done:
        so_far.broken_in[logits.argmax(1) != labels] = CLEAN
    done = 0
    for place, name in enumerate(names):
        rows, cost = so_far.survivors(place), costs[name].forwards
        if len(rows) and name not in so_far.done:
            component = _make(given, name, threat.epsilon, logits.shape[1])
            calls = ceil(len(rows) * cost / given.batch_size)
            with counted(model, progress, name, max(calls, 1), done / total, cost / total):
                found = pool.run(component, name, model, images, labels, logits, rows, seed, given.batch_size)
            so_far.take(place, rows, found.examples[rows], found.broken[rows])
            if isinstance(component, APGD) and not component.targets and component.stuck:
                flag = Flag("zero-gradient", f"{component.stuck} of {len(rows)} images had a zero gradient at the start point")
                so_far.flags += (flag,)
            so_far.done.append(name)
            so_far.save(memory)
        done += cost
    if progress is not None:
        progress(1.0, names[-1])
    return AttackResult(so_far.adversarial, so_far.broken_by(names), so_far.flags)


def passes(parameters: Mapping[str, Any], classes: int) -> tuple[Passes, Passes]:
    """What an image costs at most that the first component breaks, and what one costs that survives."""
    given = parse(Parameters, parameters, "fast-autoattack")
    each = [_cost(given, name, classes) for name in _components(given, classes)]
    return Passes(1, 0) + each[0], sum(each, Passes(1, 0))


def _components(given: Parameters, classes: int) -> list[str]:
    for unknown in set(given.components) - set(COMPONENTS):
        raise UsageError(f"fast-autoattack has no component {unknown!r}; it has {', '.join(COMPONENTS)}")
    return [name for name in given.components if name != "apgd-t" or classes >= CLASSES_FOR_TARGETED_DLR] or ["apgd-ce"]


def _make(given: Parameters, name: str, epsilon: float, classes: int) -> pool.Component:
    targets = min(given.targets, classes - 1)
    if name == "fab-t":
        return FAB(epsilon, given.fab_n_iter, targets, given.fab_alpha_max, given.fab_eta, given.fab_beta)
    if name == "square":
        return Square(epsilon, given.square_n_queries, given.square_p_init)
    return APGD(epsilon, given.apgd_n_iter, given.apgd_rho, targets if name == "apgd-t" else 0)


def _cost(given: Parameters, name: str, classes: int) -> Passes:
    runs = 1 if name in ("apgd-ce", "square") else min(given.targets, classes - 1)
    steps = {"fab-t": given.fab_n_iter, "square": given.square_n_queries}.get(name, given.apgd_n_iter) + 1
    return Passes(runs * steps, 0 if name == "square" else runs * steps)
