"""The attack of Carlini and Wagner in L2 (arXiv 1608.04644), by torchattacks: a fixed constant, no binary search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    """`c` weighs the margin against the squared distance, `kappa` is the confidence, `learning_rate` Adam's.

    `pixel_margin` keeps starting pixels off 0 and 1: the package optimises in arctanh space, where those are infinite and never move.
    """

    c: float
    kappa: float
    steps: int
    learning_rate: float
    pixel_margin: float
    batch_size: int


def passes(parameters: Mapping[str, Any], classes: int) -> tuple[Passes, Passes]:
    """What an image costs, broken or not."""
    once = Passes(parse(Parameters, parameters, "torchattacks-cw").steps + 1, parse(Parameters, parameters, "torchattacks-cw").steps)
    return once, once


def attack(
    model: torch.nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    threat: ThreatModel,
    parameters: Mapping[str, Any],
    seed: int,
    progress: Callable[[float, str], None] | None,
) -> AttackResult:
    """Run CW on positively shifted logits (see `Facade`).

    The examples are the package's own, the nearest it found, whether inside the radius or not; an image for which it found none holds
    the clean image. Success is claimed where the prediction is wrong and the L2 distance is at most the radius. The attack draws no
    random numbers. The package stops when the summed cost of a batch has stopped falling, so that results depend on batch mates.
    """
    import torchattacks

    given = parse(Parameters, parameters, "torchattacks-cw")
    package = torchattacks.CW(
        Facade(model, images.device, positive=True), c=given.c, kappa=given.kappa, steps=given.steps, lr=given.learning_rate
    )
    examples = []
    wrong = []
    with counted(model, progress, "cw", ceil(len(images) / given.batch_size) * (given.steps + 1)):
        for batch, truth in zip(torch.split(images, given.batch_size), torch.split(labels, given.batch_size), strict=True):
            start = batch.clamp(given.pixel_margin, 1 - given.pixel_margin)
            found = package(start, truth).detach()
            unmoved = (found == start).flatten(1).all(1)
            examples.append(torch.where(unmoved[:, None, None, None], batch, found))
            wrong.append(predict(model, examples[-1]) != truth)
    adversarial = torch.cat(examples)
    distance = (adversarial.double() - images.double()).flatten(1).norm(dim=1)
    broken = torch.cat(wrong) & (distance <= threat.epsilon)
    return AttackResult(adversarial, tuple("cw" if success else None for success in broken.tolist()))
