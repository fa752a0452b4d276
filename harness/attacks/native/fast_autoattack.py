"""Native AutoAttack in Linf and L2 (APGD-CE, APGD-T, FAB-T and Square); each image is attacked independently.

It is written from the papers and avoids repeated work. The adapter `autoattack`, which runs the package, remains the source of the number
called AutoAttack. Outcomes may differ from the package's: the random numbers differ, FAB linearises the boundary at another point (see
`fab`), and all targets of an image are attacked in parallel. The result for an image does not depend on its batch if its logits do not.
"""

from __future__ import annotations

import torch

from harness.attacks.common import Adapter, AttackCall, AttackResult, Flag
from harness.attacks.component_progress import ComponentProgress
from harness.attacks.native import pool
from harness.attacks.native.apgd import APGD
from harness.attacks.native.ensemble import run_in_order, usable
from harness.attacks.native.fab import FAB
from harness.attacks.native.geometry import GEOMETRIES
from harness.attacks.native.square import Square
from harness.attacks.native.square_l2 import SquareL2
from harness.attacks.parameters import Count, Names, Size
from harness.attacks.parameters import Parameters as BaseParameters
from harness.attacks.passes import Passes
from model_zoo.errors import UsageError
from model_zoo.threat import ThreatModel

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
    model, images, threat = call.model, call.images, call.threat
    if threat.norm not in GEOMETRIES:
        raise UsageError(f"fast-autoattack is for {' and '.join(GEOMETRIES)}, not for {threat}")
    with torch.no_grad():
        logits = model(images)
    costs = {name: _cost(parameters, name, logits.shape[1]) for name in _components(parameters, logits.shape[1])}
    state = ComponentProgress.begin(images, list(costs), call.memory)

    def new_component(name: str) -> pool.Component:
        return _new_component(parameters, name, threat, logits.shape[1])

    return run_in_order(call, logits, costs, state, parameters.batch_size, new_component, flags=_flags)


def _flags(component: pool.Component, images: int) -> list[Flag]:
    if not isinstance(component, APGD) or component.targets or not component.stuck:
        return []
    return [Flag("zero-gradient", f"{component.stuck} of {images} images had a zero gradient at the start point")]


def passes(parameters: Parameters, classes: int) -> tuple[Passes, Passes]:
    """Return the most passes for an image that the first component breaks, and the passes for one that survives all."""
    costs = [_cost(parameters, name, classes) for name in _components(parameters, classes)]
    return Passes(1, 0) + costs[0], sum(costs, Passes(1, 0))


def _components(parameters: Parameters, classes: int) -> list[str]:
    return usable("fast-autoattack", parameters.components, COMPONENTS, classes)


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
