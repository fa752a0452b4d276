"""Transfer attack: try examples made on shipped models of the same data; it uses only the attacked model's predictions.

Such examples can break a network whose gradients are masked. PGD ascends the cross-entropy and the margin of every source; an image is
broken by the first example that the model misclassifies.
"""

from __future__ import annotations

from typing import Any

import torch

from harness.attacks.common import Adapter, AttackCall, AttackResult
from harness.attacks.native.losses import LOSSES
from harness.attacks.native.sources import sources, transfer_examples
from harness.attacks.parameters import Count, Names, Ratio
from harness.attacks.parameters import Parameters as BaseParameters
from harness.attacks.passes import Passes
from model_zoo import registry
from model_zoo.errors import UsageError
from model_zoo.loading import load_model

# Value in a specification that stands for the sources of the attacked data.
AUTO = ["auto"]
# Names in `LOSSES` of the losses that are ascended on every source.
CLIMBED = ("ce", "margin")


class Parameters(BaseParameters):
    """`sources` are ids of shipped models, `weights` the SHA-256 hashes of their weights; `step` is in units of the radius."""

    sources: Names
    weights: Names
    steps: Count
    step: Ratio
    batch_size: Count


def bind(parameters: Parameters, family: str, weights_sha256: str) -> dict[str, Any]:
    """Return the parameters with the sources for a family of data, without the attacked model; unchanged unless sources is `AUTO`.

    Raises
    ------
    UsageError
        If no source models of that family ship.
    """
    values = parameters.model_dump(mode="json")
    if parameters.sources != AUTO:
        return values
    names = sources(family, weights_sha256)
    if not names:
        raise UsageError(f"transfer: no shipped models of {family} to make examples on")
    return {**values, "sources": list(names), "weights": [registry.get_record(name).weights_sha256 for name in names]}


def passes(parameters: Parameters, classes: int) -> tuple[Passes, Passes]:
    """Return the passes, those of the attacked model and of the sources together, for an image broken at once and for a survivor."""
    run_cost = Passes(parameters.steps + 1, parameters.steps)
    return run_cost, run_cost * (len(CLIMBED) * len(parameters.sources))


def attack(call: AttackCall, parameters: Parameters) -> AttackResult:
    """Try the last iterates of every source and loss, each on the images not broken yet.

    Raises
    ------
    UsageError
        If a source does not ship with these weights.
    """
    model, images, labels, threat = call.model, call.images, call.labels, call.threat
    adversarial = images.clone()
    broken_by: list[str | None] = [None] * len(images)
    runs = [(name, weights, loss) for name, weights in zip(parameters.sources, parameters.weights, strict=True) for loss in CLIMBED]
    for index, (name, weights, loss) in enumerate(runs):
        component = f"{name}:{loss}"
        if call.progress is not None:
            call.progress(index / len(runs), component)
        survivors = torch.tensor([row for row, breaker in enumerate(broken_by) if breaker is None], dtype=torch.int64, device=images.device)
        if not len(survivors):
            break
        source = _source(name, weights).to(images.device)
        for rows in survivors.split(parameters.batch_size):
            step = float(threat.radius * parameters.step)
            examples = transfer_examples(
                source, images[rows], labels[rows], threat.epsilon, LOSSES[loss], call.seed, parameters.steps, step
            )
            with torch.no_grad():
                is_wrong = model(examples).argmax(1) != labels[rows]
            adversarial[rows[is_wrong]] = examples[is_wrong]
            for row in rows[is_wrong].tolist():
                broken_by[row] = component
    if call.progress is not None:
        call.progress(1.0, runs[-1][0])
    return AttackResult(adversarial, tuple(broken_by))


def _source(name: str, weights: str) -> torch.nn.Module:
    if name not in registry.model_ids() or registry.get_record(name).weights_sha256 != weights:
        raise UsageError(f"transfer: model {name} has changed since the run was planned")
    return load_model(name)


ADAPTER = Adapter("transfer", version=1, parameters=Parameters, attack=attack, passes=passes, bind=bind)
