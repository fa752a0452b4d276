"""Recipes derived from the settings of a cell at a scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness import datasets
from harness.reproduction.scale import InnerSteps, Scale
from harness.reproduction.settings import Settings
from model_zoo.errors import MissingDataError, UsageError
from model_zoo.threat import exact_fraction, parse_radius, radius_text
from model_zoo.training.recipe import Recipe


@dataclass(frozen=True)
class Rule:
    """How a method trains one kind of weights: family of models, options, inner attack, and the schedule of the scale.

    `last_batch_norm` is the kind of the batch norm behind the last layer, if the settings have one.
    """

    family: str
    schedule: str
    options: Mapping[str, Any] = field(default_factory=dict)
    attack: str = "pgd"
    last_batch_norm: str = "affine"


# Rules by the paper's method and weights.
RULES: dict[tuple[str, str], Rule] = {
    ("at", "fp"): Rule("dense", "weights"),
    ("at", "binary"): Rule("dense-binary", "binary-weights"),
    ("trades", "fp"): Rule("dense", "weights", attack="trades"),
    ("trades", "binary"): Rule("dense-binary", "binary-weights", attack="trades"),
    ("flying-bird", "fp"): Rule("flying-bird", "weights"),
    ("flying-bird", "binary"): Rule("flying-bird", "binary-weights", {"weights": "binary"}),
    ("flying-bird-plus", "fp"): Rule("flying-bird-plus", "weights"),
    ("flying-bird-plus", "binary"): Rule("flying-bird-plus", "binary-weights", {"weights": "binary"}),
    ("bcs", "fp"): Rule("bcs", "weights"),
    ("bcs", "binary"): Rule("bcs", "binary-weights", {"weights": "binary"}),
    # Its frozen weights are signed constants; the paper lists it under full precision.
    ("rst", "fp"): Rule("rst", "scores", last_batch_norm="plain"),
    ("hydra", "fp"): Rule("hydra", "weights"),
    ("hydra", "binary"): Rule("hydra", "binary-weights", {"weights": "binary"}),
    # Full precision is not quantised; weights of one bit are real until the last stage, and have the schedule of real ones.
    ("atmc", "fp"): Rule("atmc", "weights", {"bits": 32}),
    ("atmc", "binary"): Rule("atmc", "weights", {"bits": 1}),
    ("ours", "binary"): Rule("pruned-binary", "scores", last_batch_norm="plain"),
    ("ours-fast", "binary"): Rule("pruned-binary", "fast", attack="stored-step", last_batch_norm="plain"),
}
# Options of the paper's initialisation with constant magnitudes and the scores of edge-popup (Ramanujan et al. 2020).
SIGNED_CONSTANT = {"weight_init": "signed-constant-scaled", "score_scale": 1.0, "score_fan": "all"}


def derive(settings: Settings, scale: Scale) -> Recipe:
    """Return the recipe that trains the model of a cell.

    Raises
    ------
    MissingDataError
        If the scale has no data or architecture for the settings.
    UsageError
        If no rule trains these settings, or the recipe would contradict itself.
    """
    rule = RULES.get((settings.method, settings.weights))
    if rule is None:
        raise UsageError(f"{settings.slug}: no family trains {settings.method} with {settings.weights} weights")
    data = scale.data.get(settings.dataset)
    architecture = scale.architectures.get(settings.architecture)
    if data is None or architecture is None:
        absent = f"images of {settings.dataset}" if data is None else f"counterpart of the architecture {settings.architecture}"
        raise MissingDataError(f"{settings.slug}: scale {scale.name} has no {absent}")
    stages = dict(scale.stages.get(f"{settings.method}.{settings.weights}", scale.stages.get(settings.method, {})))
    schedule = stages.pop("schedule", scale.schedules.get(rule.schedule))
    if schedule is None:
        raise MissingDataError(f"{settings.slug}: scale {scale.name} has no schedule {rule.schedule!r}")
    fields: dict[str, Any] = {
        "id": f"{settings.slug}-{scale.name}",
        "title": f"{settings.slug}, scale {scale.name}",
        "family": rule.family,
        "seed": scale.seed + settings.seed,
        "select": "last" if stages else scale.select,
        "architecture": {
            **architecture,
            "classes": data.classes,
            "normalisation": datasets.describe(data.test).kind.normalisation,
            "last_batch_norm": rule.last_batch_norm if settings.last_bn else "none",
        },
        "options": {**rule.options, **_pruning(settings, rule), **stages},
        "data": {"dataset": data.train, "hold_out": scale.hold_out},
        "attack": _attack(settings, rule, scale),
        "optimiser": dict(schedule),
    }
    return Recipe.from_dict(fields)


def _pruning(settings: Settings, rule: Rule) -> dict[str, Any]:
    """Return the family's options for keep ratio, allocation and initialisation."""
    options: dict[str, Any] = {}
    if settings.keep_ratio is not None:
        options["keep_ratio"] = settings.keep_ratio
    if rule.family == "pruned-binary":
        options["allocation_power"] = settings.p
        if settings.init == "signed-constant":
            options |= SIGNED_CONSTANT
        elif settings.score_scale is not None:
            options["score_scale"] = settings.score_scale
    elif settings.method in ("hydra", "atmc"):
        options["allocation"] = settings.strategy
        if settings.strategy == "adaptive":
            options["allocation_power"] = settings.p
    return options


def _attack(settings: Settings, rule: Rule, scale: Scale) -> dict[str, Any]:
    if settings.radius == "0":
        # At radius 0, the accuracy on held-out images that selects an epoch is the clean one.
        return {"threat": "Linf 0/255", "method": "clean"}
    inner: InnerSteps = scale.fast_attack if rule.attack == "stored-step" else scale.attack
    radius = parse_radius(settings.radius)
    step = radius_text(radius * exact_fraction(inner.step))
    return {"threat": f"Linf {settings.radius}", "step": step, "steps": inner.steps, "method": rule.attack, "faithful": scale.faithful}
