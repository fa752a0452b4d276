"""Examples made on shipped models of the same data, tried on the model: an attack that asks it for nothing but predictions.

A network whose gradients lead nowhere is broken all the same by what breaks others. PGD climbs the cross-entropy and the margin of every
source; an image is broken by the first example that the model gets wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch

from harness.attacks.losses import LOSSES
from harness.attacks.parameters import parse
from harness.attacks.passes import Passes
from harness.attacks.sources import sources, transfer_examples
from harness.attacks.spec import AttackResult
from model_zoo import registry
from model_zoo.errors import UsageError
from model_zoo.loading import load_model
from model_zoo.threat import ThreatModel

PACKAGE = None
VERSION = 1

# In a specification, for the sources of the data that is attacked.
AUTO = ["auto"]
# Of `LOSSES`, those that every source is climbed with.
CLIMBED = ("ce", "margin")


@dataclass(frozen=True)
class Parameters:
    """`sources` are ids of shipped models and `weights` the hashes of their weights; `step` is in units of the radius."""

    sources: list[str]
    weights: list[str]
    steps: int
    step: Fraction
    batch_size: int


def bind(parameters: Mapping[str, Any], family: str, weights_sha256: str) -> dict[str, Any]:
    """The parameters with the sources for data of a family, none of them the attacked model itself.

    Raises
    ------
    UsageError
        If no models of that data ship.
    """
    if parameters["sources"] != AUTO:
        return dict(parameters)
    names = sources(family, weights_sha256)
    if not names:
        raise UsageError(f"transfer: no shipped models of {family} to make examples on")
    return {**parameters, "sources": list(names), "weights": [registry.get_record(name).weights_sha256 for name in names]}


def passes(parameters: Mapping[str, Any], classes: int) -> tuple[Passes, Passes]:
    """Passes of the attacked model and of the sources together."""
    given = parse(Parameters, parameters, "transfer")
    once = Passes(given.steps + 1, given.steps)
    return once, once * (len(CLIMBED) * len(given.sources))


def attack(
    model: torch.nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    threat: ThreatModel,
    parameters: Mapping[str, Any],
    seed: int,
    progress: Callable[[float, str], None] | None,
) -> AttackResult:
    """Try the last iterates of every source and loss on what is left."""
    given = parse(Parameters, parameters, "transfer")
    adversarial = images.clone()
    broken_by: list[str | None] = [None] * len(images)
    runs = [(name, weights, loss) for name, weights in zip(given.sources, given.weights, strict=True) for loss in CLIMBED]
    for place, (name, weights, loss) in enumerate(runs):
        component = f"{name}:{loss}"
        if progress is not None:
            progress(place / len(runs), component)
        left = torch.tensor([row for row, by in enumerate(broken_by) if by is None], dtype=torch.int64, device=images.device)
        if not len(left):
            break
        source = _source(name, weights).to(images.device)
        for rows in left.split(given.batch_size):
            step = float(threat.radius * given.step)
            made = transfer_examples(source, images[rows], labels[rows], threat.epsilon, LOSSES[loss], seed, given.steps, step)
            with torch.no_grad():
                wrong = model(made).argmax(1) != labels[rows]
            adversarial[rows[wrong]] = made[wrong]
            for row in rows[wrong].tolist():
                broken_by[row] = component
    if progress is not None:
        progress(1.0, runs[-1][0])
    return AttackResult(adversarial, tuple(broken_by))


def _source(name: str, weights: str) -> torch.nn.Module:
    if name not in registry.model_ids() or registry.get_record(name).weights_sha256 != weights:
        raise UsageError(f"transfer: the model {name} is not the one that examples were to be made on")
    return load_model(name)
