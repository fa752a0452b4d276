"""Cascade: an ensemble that reaches AutoAttack's verdict with a small fraction of its passes.

Its components run in order, each on the images that no earlier one broke:

- "margin": a few signed steps on the margin, which break most images that can be broken;
- "ranked": signed steps towards the classes whose boundary is nearest by a linear estimate;
- "descent": a few signed steps down the margin, for models whose margin misleads;
- "restart": as "ranked", from random points of the ball;
- "square": Square, which uses no gradients; it goes on with an image on which the gradients did badly (see `CascadeSquare`);
- "rays", which uses only decisions, and AutoAttack's "apgd-ce" and "apgd-t": only for the images with which Square went on.

Runs of the signed steps end early if their progress shows that they will fail. The result for an image does not depend on its batch if
its logits do not.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from harness.attacks.common import Adapter, AttackCall, AttackResult
from harness.attacks.component_progress import ComponentProgress
from harness.attacks.native import pool
from harness.attacks.native.apgd import APGD
from harness.attacks.native.cascade_ascent import CascadeAscent
from harness.attacks.native.cascade_square import CascadeSquare
from harness.attacks.native.ensemble import run_in_order, usable
from harness.attacks.native.losses import margin
from harness.attacks.native.rays import RayS
from harness.attacks.parameters import Count, Names, Size
from harness.attacks.parameters import Parameters as BaseParameters
from harness.attacks.passes import Passes

COMPONENTS = ("margin", "ranked", "descent", "restart", "square", "rays", "apgd-ce", "apgd-t")
# Components that attack only the images that `CascadeSquare` marked as suspicious.
FALLBACK = ("rays", "apgd-ce", "apgd-t")


class Parameters(BaseParameters):
    """Parameters of the components.

    `batch_size` is the number of simultaneous runs, and `margin_steps` the number of steps of "margin" and "descent". `candidates`, the
    number of classes of which the nearest are attacked, is reduced to the number of other classes if it is larger; `starts` is the number
    of random points of "restart". For `targets`, `steps`, `patience` and `reach`, see `CascadeAscent`; for `square_least`,
    `square_progress` and `square_far`, see `CascadeSquare`. The others are named as in `autoattack` and `rays`.
    """

    components: Names
    batch_size: Count
    margin_steps: Count
    candidates: Count
    targets: Count
    starts: Count
    steps: Count
    patience: Count
    reach: Size
    square_n_queries: Count
    square_p_init: Size
    square_least: Count
    square_progress: Annotated[float, Field(ge=0, le=1)]
    square_far: Size
    rays_queries: Count
    apgd_n_iter: Count
    apgd_rho: Size


def attack(call: AttackCall, parameters: Parameters) -> AttackResult:
    """Run the components in order, each on the images that no earlier one broke; resume after those that `memory` contains.

    Raises
    ------
    UsageError
        If the parameters name an unknown component.
    """
    model, images, labels = call.model, call.images, call.labels
    with torch.no_grad():
        logits = model(images)
    costs = {name: _most(parameters, name, logits.shape[1]) for name in _components(parameters, logits.shape[1])}
    clean_margin = margin(logits, labels)
    state = ComponentProgress.begin(images, list(costs), call.memory, reached=clean_margin, suspicious=torch.zeros_like(labels).bool())

    def new_component(name: str) -> pool.Component:
        return _new_component(parameters, name, call.threat.epsilon, logits.shape[1], state, clean_margin)

    def selected(name: str, rows: torch.Tensor) -> torch.Tensor:
        return rows[state.extra["suspicious"][rows]] if name in FALLBACK else rows

    return run_in_order(call, logits, costs, state, parameters.batch_size, new_component, selected=selected)


def passes(parameters: Parameters, classes: int) -> tuple[Passes, Passes]:
    """Return the most passes for an image that the first component breaks, and for one that survives all.

    A survivor costs that much only if it is suspicious and no run ends early; on honest models, most cost less than a tenth of it.
    """
    costs = [_most(parameters, name, classes) for name in _components(parameters, classes)]
    return Passes(1, 0) + costs[0], sum(costs, Passes(1, 0))


def _components(parameters: Parameters, classes: int) -> list[str]:
    return usable("cascade", parameters.components, COMPONENTS, classes)


def _new_component(
    parameters: Parameters, name: str, epsilon: float, classes: int, state: ComponentProgress, clean_margin: torch.Tensor
) -> pool.Component:
    candidates = min(parameters.candidates, classes - 1)
    if name == "rays":
        return RayS(epsilon, parameters.rays_queries)
    if name in FALLBACK:
        return APGD(epsilon, parameters.apgd_n_iter, parameters.apgd_rho, candidates if name == "apgd-t" else 0)
    if name == "square":
        return CascadeSquare(
            epsilon,
            parameters.square_n_queries,
            parameters.square_p_init,
            least=parameters.square_least,
            progress=parameters.square_progress,
            far=parameters.square_far,
            clean_margin=clean_margin,
            reached=state.extra["reached"],
            suspicious=state.extra["suspicious"],
        )
    is_ranked = name in ("ranked", "restart")
    return CascadeAscent(
        epsilon,
        parameters.steps if is_ranked else parameters.margin_steps,
        parameters.patience,
        parameters.reach,
        state.extra["reached"],
        candidates=candidates if is_ranked else 0,
        targets=parameters.targets,
        starts=parameters.starts if name == "restart" else 0,
        sign=-1 if name == "descent" else 1,
    )


def _most(parameters: Parameters, name: str, classes: int) -> Passes:
    if name == "square":
        return Passes(parameters.square_n_queries + 1, 0)
    if name == "rays":
        return Passes(parameters.rays_queries, 0)
    candidates = min(parameters.candidates, classes - 1)
    if name in FALLBACK:
        runs = (parameters.apgd_n_iter + 1) * (candidates if name == "apgd-t" else 1)
    elif name in ("ranked", "restart"):
        first = candidates * (parameters.starts if name == "restart" else 1)
        runs = first + min(parameters.targets, first) * parameters.steps
    else:
        runs = parameters.margin_steps + 1
    return Passes(runs, runs)


ADAPTER = Adapter("cascade", version=1, parameters=Parameters, attack=attack, passes=passes, engine="sparse")
