"""Attacks whose components run in order, each on the images that no earlier one broke."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import TypeVar

import torch

from harness.attacks.common import AttackCall, AttackResult, Flag
from harness.attacks.component_progress import CLEAN, ComponentProgress
from harness.attacks.native import pool
from harness.attacks.passes import Passes
from harness.attacks.progress import counted
from model_zoo.errors import UsageError

CLASSES_FOR_TARGETED_DLR = 4

C = TypeVar("C", bound=pool.Component)


def usable(attack: str, names: Sequence[str], known: Sequence[str], classes: int) -> list[str]:
    """Return the components that a model with `classes` classes can be attacked with: "apgd-ce" if none of `names` can.

    Raises
    ------
    UsageError
        If a name is not one of the `known` components of the attack.
    """
    for unknown in set(names) - set(known):
        raise UsageError(f"{attack} has no component {unknown!r}; it has {', '.join(known)}")
    return [name for name in names if name != "apgd-t" or classes >= CLASSES_FOR_TARGETED_DLR] or ["apgd-ce"]


def run_in_order(
    call: AttackCall,
    logits: torch.Tensor,
    costs: Mapping[str, Passes],
    state: ComponentProgress,
    batch_size: int,
    new_component: Callable[[str], C],
    *,
    selected: Callable[[str, torch.Tensor], torch.Tensor] = lambda name, rows: rows,
    flags: Callable[[C, int], Sequence[Flag]] = lambda component, images: (),
) -> AttackResult:
    """Run the components in order; resume after those that are done.

    Parameters
    ----------
    call : AttackCall
        Model, images [N, ...], labels, seed, progress and memory.
    logits : torch.Tensor
        Logits of the clean images, [N, classes].
    costs : mapping
        The most passes of each component for one image, by its name, in the order of the components.
    state : ComponentProgress
        The state to begin with; images that are misclassified are marked before the first component.
    batch_size : int
        Number of simultaneous runs.
    new_component : callable
        Returns the component of a name.
    selected : callable, optional
        Called with a name and the indices of the surviving images; returns the indices of those that the component attacks.
    flags : callable, optional
        Called with a component that has run and its number of images; returns warnings.
    """
    model, images, labels, names = call.model, call.images, call.labels, list(costs)
    total, finished_cost = sum(cost.forwards for cost in costs.values()), 0
    if not state.done:
        state.broken_in[logits.argmax(1) != labels] = CLEAN
    for index, name in enumerate(names):
        rows, cost = selected(name, state.survivors(index)), costs[name].forwards
        if len(rows) and name not in state.done:
            component = new_component(name)
            calls = ceil(len(rows) * cost / batch_size)
            with counted(model, call.progress, name, calls, finished_cost / total, cost / total):
                result = pool.run(component, name, model, images, labels, logits, rows, call.seed, batch_size)
            state.take(index, rows, result.examples[rows], result.broken[rows])
            state.flags += tuple(flags(component, len(rows)))
            state.done.append(name)
            state.save(call.memory)
        finished_cost += cost
    if call.progress is not None:
        call.progress(1.0, names[-1])
    return AttackResult(state.adversarial, state.broken_by(names), state.flags)
