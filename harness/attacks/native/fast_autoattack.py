"""Native AutoAttack in Linf and L2 (APGD-CE, APGD-T, FAB-T and Square); each image is attacked independently.

It is written from the papers and avoids repeated work. The adapter `autoattack`, which runs the package, remains the source of the number
called AutoAttack. Outcomes may differ from the package's: the random numbers differ, FAB linearises the boundary at another point (see
`fab`), and all targets of an image are attacked in parallel. The result for an image does not depend on its batch if its logits do not.
"""

from __future__ import annotations

from math import ceil

import torch

from harness.attacks.common import Adapter, AttackCall, AttackResult, Flag
from harness.attacks.component_progress import CLEAN, ComponentProgress
from harness.attacks.native import pool
from harness.attacks.native.apgd import APGD
from harness.attacks.native.fab import FAB
from harness.attacks.native.geometry import GEOMETRIES
from harness.attacks.native.square import Square
from harness.attacks.native.square_l2 import SquareL2
from harness.attacks.parameters import Count, Names, Size
from harness.attacks.parameters import Parameters as BaseParameters
from harness.attacks.passes import Passes
from harness.attacks.progress import counted
from model_zoo.errors import UsageError
from model_zoo.threat import ThreatModel

CLASSES_FOR_TARGETED_DLR = 4
COMPONENTS = ("apgd-ce", "apgd-t", "fab-t", "square")


class Parameters(BaseParameters):
    """Parameters named as those of `autoattack`; `batch_size` is the number of simultaneous runs."""

    components: Names
    batch_size: Count
    targets: Count
    apgd_n_iter: Count
    apgd_rho: Size
    fab_n_iter: Count
    fab_alpha_max: Size
    fab_eta: Size
    fab_beta: Size
    square_n_queries: Count
    square_p_init: Size


def attack(call: AttackCall, parameters: Parameters) -> AttackResult:
    """Run the components in order, each on the images that no earlier one broke; resume after those that `memory` contains.

    Raises
    ------
    UsageError
        If the parameters name an unknown component, or the norm of the threat model is neither Linf nor L2.
    """
    model, images, labels, threat = call.model, call.images, call.labels, call.threat
    if threat.norm not in GEOMETRIES:
        raise UsageError(f"fast-autoattack is for {' and '.join(GEOMETRIES)}, not for {threat}")
    with torch.no_grad():
        logits = model(images)
    names = _components(parameters, logits.shape[1])
    costs = {name: _cost(parameters, name, logits.shape[1]) for name in names}
    total = sum(cost.forwards for cost in costs.values())
    state = ComponentProgress.begin(images, names, call.memory)
    if not state.done:
        state.broken_in[logits.argmax(1) != labels] = CLEAN
    finished_cost = 0
    for index, name in enumerate(names):
        rows, cost = state.survivors(index), costs[name].forwards
        if len(rows) and name not in state.done:
            component = _new_component(parameters, name, threat, logits.shape[1])
            calls = ceil(len(rows) * cost / parameters.batch_size)
            with counted(model, call.progress, name, max(calls, 1), finished_cost / total, cost / total):
                result = pool.run(component, name, model, images, labels, logits, rows, call.seed, parameters.batch_size)
            state.take(index, rows, result.examples[rows], result.broken[rows])
            if isinstance(component, APGD) and not component.targets and component.stuck:
                flag = Flag("zero-gradient", f"{component.stuck} of {len(rows)} images had a zero gradient at the start point")
                state.flags += (flag,)
            state.done.append(name)
            state.save(call.memory)
        finished_cost += cost
    if call.progress is not None:
        call.progress(1.0, names[-1])
    return AttackResult(state.adversarial, state.broken_by(names), state.flags)


def passes(parameters: Parameters, classes: int) -> tuple[Passes, Passes]:
    """Return the most passes for an image that the first component breaks, and the passes for one that survives all."""
    costs = [_cost(parameters, name, classes) for name in _components(parameters, classes)]
    return Passes(1, 0) + costs[0], sum(costs, Passes(1, 0))


def _components(parameters: Parameters, classes: int) -> list[str]:
    for unknown in set(parameters.components) - set(COMPONENTS):
        raise UsageError(f"fast-autoattack has no component {unknown!r}; it has {', '.join(COMPONENTS)}")
    return [name for name in parameters.components if name != "apgd-t" or classes >= CLASSES_FOR_TARGETED_DLR] or ["apgd-ce"]


def _new_component(parameters: Parameters, name: str, threat: ThreatModel, classes: int) -> pool.Component:
    epsilon, geometry, targets = threat.epsilon, GEOMETRIES[threat.norm], min(parameters.targets, classes - 1)
    if name == "fab-t":
        constants = (parameters.fab_alpha_max, parameters.fab_eta, parameters.fab_beta)
        return FAB(epsilon, parameters.fab_n_iter, targets, *constants, geometry)
    if name == "square":
        square = Square if threat.norm == "Linf" else SquareL2
        return square(epsilon, parameters.square_n_queries, parameters.square_p_init)
    return APGD(epsilon, parameters.apgd_n_iter, parameters.apgd_rho, targets if name == "apgd-t" else 0, geometry=geometry)


def _cost(parameters: Parameters, name: str, classes: int) -> Passes:
    runs = 1 if name in ("apgd-ce", "square") else min(parameters.targets, classes - 1)
    steps = {"fab-t": parameters.fab_n_iter, "square": parameters.square_n_queries}.get(name, parameters.apgd_n_iter) + 1
    return Passes(runs * steps, 0 if name == "square" else runs * steps)


ADAPTER = Adapter("fast-autoattack", version=1, parameters=Parameters, attack=attack, passes=passes, engine="sparse")
