"""Estimates of run time: from stored units of the same model and attack, or else from a short pilot of the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from harness.attacks.passes import Passes, passes
from harness.runner.documents import Manifest
from harness.runner.identity import canonical_json
from harness.runner.plan import Unit
from harness.runner.store import Store
from model_zoo.registry import absences

PILOT_IMAGES = 32
PILOT_STEPS = 10


@dataclass(frozen=True)
class Pilot:
    """Measurements from a short run of a model.

    Attributes
    ----------
    forward, backward : float
        Seconds per image; a backward pass without the forward pass before it.
    clean, robust : float
        Fraction of images that the model classifies correctly, without an attack and under ten steps of PGD.
    """

    forward: float
    backward: float
    clean: float
    robust: float

    def seconds(self, unit: Unit) -> float:
        """Return the estimated seconds that a unit takes on one thread."""
        broken, survives = passes(unit.attack, len(unit.block.classes))

        def cost(each: Passes) -> float:
            return each.forwards * self.forward + each.backwards * self.backward

        return len(unit.block) * ((self.clean - self.robust) * cost(broken) + self.robust * cost(survives))


def length(unit: Unit) -> int:
    """Return a number that orders units of the same model by run time."""
    _, survives = passes(unit.attack, len(unit.block.classes))
    return len(unit.block) * (survives.forwards + 2 * survives.backwards)


def pilot(unit: Unit) -> Pilot:
    """Measure the unit's model on the unit's first `PILOT_IMAGES` images, on one thread."""
    import torch

    from harness.attacks.native.losses import cross_entropy
    from harness.evaluation.probes import ascend
    from harness.evaluation.referee import predict
    from harness.evaluation.unit import as_attacked, unit_threads
    from harness.runner.work import declared
    from model_zoo.loading import load_model

    with unit_threads():
        model = as_attacked(load_model(unit.model), **declared(unit.record))
        images, labels = unit.block.first(min(PILOT_IMAGES, len(unit.block))).tensors()
        right = predict(model, images) == labels
        robust = ascend(model, images, labels, unit.threat.epsilon, cross_entropy, PILOT_STEPS, 0).robust & right

        def forward() -> None:
            with torch.no_grad():
                model(images)

        def both() -> None:
            point = images.clone().requires_grad_(True)
            torch.autograd.grad(model(point).sum(), point)

        once, twice = (_clocked(work) / len(images) for work in (forward, both))
    share = 1 / len(images)
    return Pilot(once, max(twice - once, 0.0), float(right.sum()) * share, float(robust.sum()) * share)


def _clocked(work: Callable[[], None]) -> float:
    work()
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return median(seconds)


class Rates:
    """Median seconds per image in manifests: for a model under an attack, and for an attack on any model."""

    def __init__(self, manifests: Iterable[Manifest]) -> None:
        found: dict[str, list[float]] = {}
        for manifest in manifests:
            if manifest.seconds is not None and manifest.images:
                rate = manifest.seconds / manifest.images
                for key in _keys(manifest.identity):
                    found.setdefault(key, []).append(rate)
        self._known = {key: median(rates) for key, rates in found.items()}

    def seconds(self, unit: Unit, any_model: bool = False) -> float | None:
        """Return the seconds that a unit takes; None if no rate is known. With `any_model`, the rate may be that of other models."""
        own, others = _keys(unit.identity)
        rate = self._known.get(own, self._known.get(others) if any_model else None)
        return None if rate is None else rate * len(unit.block)


def _keys(identity: Mapping[str, Any]) -> tuple[str, str]:
    what = {"attack": identity["attack"], "threat": identity["threat"], "engine": identity["engine"]}
    return canonical_json({**what, "model": identity["model"]}), canonical_json({"attack": identity["attack"]["name"]})


@dataclass(frozen=True)
class Estimate:
    """Units of one model: how many, how many the store has, the seconds for the others on one core, and whether a pilot was run."""

    model: str
    units: int
    held: int
    seconds: float
    piloted: bool


def estimate(units: Iterable[Unit], store: Store, tell: Callable[[str], None] = lambda model: None) -> list[Estimate]:
    """Return an estimate per model, in the order of the units; `tell` is called with a model's id before its pilot."""
    rates = Rates(store.manifests())
    by_model: dict[str, list[Unit]] = {}
    for unit in units:
        by_model.setdefault(unit.model, []).append(unit)
    found = []
    absent = absences(by_model)
    for model, mine in by_model.items():
        missing = [unit for unit in mine if not store.holds(unit.id)]
        held = len(mine) - len(missing)
        missing = [] if model in absent else missing
        if not held and not missing:
            continue
        unknown = [unit for unit in missing if rates.seconds(unit) is None]
        seconds = sum(rates.seconds(unit) or 0.0 for unit in missing)
        # Another radius leaves other images robust, so each threat model gets a pilot.
        for threat in dict.fromkeys(unit.threat for unit in unknown):
            tell(mine[0].record.id)
            those = [unit for unit in unknown if unit.threat == threat]
            tried = pilot(those[0])
            seconds += sum(tried.seconds(unit) for unit in those)
        found.append(Estimate(mine[0].record.id, held + len(missing), held, seconds, bool(unknown)))
    return found
