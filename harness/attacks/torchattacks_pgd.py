"""PGD on the cross-entropy (Madry et al., arXiv 1706.06083), by torchattacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

import torch

from harness.attacks.facade import Facade, predict
from harness.attacks.parameters import parse
from harness.attacks.passes import Passes
from harness.attacks.progress import counted
from harness.attacks.spec import AttackResult
from model_zoo.threat import ThreatModel

PACKAGE = "torchattacks"
VERSION = 1


@dataclass(frozen=True)
class Parameters:
    """`step` is in units of the radius; a later restart sees only the images not broken yet; images go in batches of `batch_size`."""

    steps: int
    step: Fraction
    random_start: bool
    restarts: int
    batch_size: int


def passes(parameters: Mapping[str, Any], classes: int) -> tuple[Passes, Passes]:
    """What an image costs that the first restart breaks, and one that survives."""
    given = parse(Parameters, parameters, "torchattacks-pgd")
    once = Passes(given.steps + 1, given.steps)
    return once, once * given.restarts


def attack(
    model: torch.nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    threat: ThreatModel,
    parameters: Mapping[str, Any],
    seed: int,
    progress: Callable[[float, str], None] | None,
) -> AttackResult:
    """Run PGD. The example of an image is the last iterate of its first successful restart, or of its last restart.

    The random starts come from torch's global generator, which the caller has seeded: with one restart this is what
    `torch.manual_seed(seed); torchattacks.PGD(model, eps, alpha, steps, random_start)(images, labels)` gives.
    """
    import torchattacks

    given = parse(Parameters, parameters, "torchattacks-pgd")
    package = torchattacks.PGD(
        Facade(model, images.device),
        eps=threat.epsilon,
        alpha=float(threat.radius * given.step),
        steps=given.steps,
        random_start=given.random_start,
    )
    adversarial = images.clone()
    broken = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    passes = ceil(len(images) / given.batch_size) * given.restarts * (given.steps + 1)
    with counted(model, progress, "pgd", passes):
        for batch in torch.split(torch.arange(len(images), device=images.device), given.batch_size):
            rows = batch
            for _ in range(given.restarts):
                adversarial[rows] = package(images[rows], labels[rows]).detach()
                broken[rows] = predict(model, adversarial[rows]) != labels[rows]
                rows = rows[~broken[rows]]
                if not len(rows):
                    break
    return AttackResult(adversarial, tuple("pgd" if success else None for success in broken.tolist()))
