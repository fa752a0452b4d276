"""Estimates of run time: from stored units of the same model and attack, or else from a short pilot of the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from harness.attacks.passes import Passes, passes
from harness.corruptions.common import Corruption
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
        if_broken, if_robust = _passes(unit)
        if isinstance(unit.attack, Corruption):
            # Images that the model gets wrong are corrupted too.
            return len(unit.block) * if_robust.forwards * self.forward

        def cost(count: Passes) -> float:
            return count.forwards * self.forward + count.backwards * self.backward

        return len(unit.block) * ((self.clean - self.robust) * cost(if_broken) + self.robust * cost(if_robust))


def length(unit: Unit) -> int:
    """Return a number that orders units of the same model by run time."""
    _, if_robust = _passes(unit)
    return len(unit.block) * (if_robust.forwards + 2 * if_robust.backwards)


def _passes(unit: Unit) -> tuple[Passes, Passes]:
    """Return the most passes for an image that is broken at once and for one that survives; with a corruption, the clean image's too."""
    if isinstance(unit.attack, Corruption):
        return Passes(2, 0), Passes(2, 0)
    return passes(unit.attack, len(unit.block.classes))


def pilot(unit: Unit) -> Pilot:
    """Measure the unit's model on the unit's first `PILOT_IMAGES` images, on one thread."""
    import torch

    from harness.attacks.native.losses import cross_entropy
    from harness.evaluation.probes import ascend
    from harness.evaluation.referee import predict
    from harness.evaluation.subject import as_attacked
    from harness.evaluation.unit import unit_threads
    from harness.runner.work import declared
    from model_zoo.loading import load_model

    with unit_threads():
        model = as_attacked(load_model(unit.model), **declared(unit.record))
        images, labels = unit.block.first(min(PILOT_IMAGES, len(unit.block))).tensors()
        is_correct = predict(model, images) == labels
        robust = is_correct
        if not isinstance(unit.attack, Corruption):
            robust = ascend(model, images, labels, unit.threat.epsilon, cross_entropy, PILOT_STEPS, 0).robust & is_correct

        def forward() -> None:
            with torch.no_grad():
                model(images)

        def both() -> None:
            point = images.clone().requires_grad_(True)
            torch.autograd.grad(model(point).sum(), point)

        forward_seconds, both_seconds = (_time(work) / len(images) for work in (forward, both))
    share = 1 / len(images)
    return Pilot(forward_seconds, max(both_seconds - forward_seconds, 0.0), float(is_correct.sum()) * share, float(robust.sum()) * share)


def _time(work: Callable[[], None]) -> float:
    work()
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return median(seconds)


class Rates:
    """Median seconds per image in manifests: for a model under an attack, and for an attack on any model."""

    def __init__(self, manifests: Iterable[Manifest]) -> None:
        rates: dict[str, list[float]] = {}
        for manifest in manifests:
            if manifest.seconds is not None and manifest.images:
                rate = manifest.seconds / manifest.images
                for key in _rate_keys(manifest.identity):
                    rates.setdefault(key, []).append(rate)
        self._rates = {key: median(values) for key, values in rates.items()}

    def seconds(self, unit: Unit, any_model: bool = False) -> float | None:
        """Return the seconds that a unit takes; None if no rate is known. With `any_model`, the rate may be that of other models."""
        same_model, other_models = _rate_keys(unit.identity)
        rate = self._rates.get(same_model, self._rates.get(other_models) if any_model else None)
        return None if rate is None else rate * len(unit.block)


def _rate_keys(identity: Mapping[str, Any]) -> tuple[str, str]:
    common = {"attack": identity["attack"], "threat": identity["threat"], "engine": identity["engine"]}
    return canonical_json({**common, "model": identity["model"]}), canonical_json({"attack": identity["attack"]["name"]})


@dataclass(frozen=True)
class Estimate:
    """Units of one model: how many, how many the store has, the seconds for the others on one core, and whether a pilot was run."""

    model: str
    units: int
    stored: int
    seconds: float
    piloted: bool


def _piloted(unit: Unit) -> str:
    return unit.threat.norm if isinstance(unit.attack, Corruption) else str(unit.threat)


def estimate(units: Iterable[Unit], store: Store, on_pilot: Callable[[str], None] = lambda model: None) -> list[Estimate]:
    """Return an estimate per model, in the order of the units; `on_pilot` is called with a model's id before its pilot."""
    rates = Rates(store.manifests())
    by_model: dict[str, list[Unit]] = {}
    for unit in units:
        by_model.setdefault(unit.model, []).append(unit)
    estimates = []
    absent = absences(by_model)
    for model, model_units in by_model.items():
        missing = [unit for unit in model_units if not store.holds(unit.id)]
        done_count = len(model_units) - len(missing)
        missing = [] if model in absent else missing
        if not done_count and not missing:
            continue
        untimed = [unit for unit in missing if rates.seconds(unit) is None]
        seconds = sum(rates.seconds(unit) or 0.0 for unit in missing)
        # Another radius leaves other images robust, so each threat model gets a pilot; all severities of corruptions share one.
        for piloted in dict.fromkeys(map(_piloted, untimed)):
            on_pilot(model_units[0].record.id)
            piloted_units = [unit for unit in untimed if _piloted(unit) == piloted]
            measured = pilot(piloted_units[0])
            seconds += sum(measured.seconds(unit) for unit in piloted_units)
        estimates.append(Estimate(model_units[0].record.id, done_count + len(missing), done_count, seconds, bool(untimed)))
    return estimates
