"""The attack of Carlini and Wagner in L2 (arXiv 1608.04644) from torchattacks, with a fixed constant instead of a binary search."""

from __future__ import annotations

from math import ceil

import torch

from harness.attacks.common import Adapter, AttackCall, AttackResult
from harness.attacks.packages.facade import Facade, predict
from harness.attacks.parameters import Count, Size
from harness.attacks.parameters import Parameters as BaseParameters
from harness.attacks.passes import Passes
from harness.attacks.progress import counted
from harness.threats import L2


class Parameters(BaseParameters):
    """`c` weighs the margin against the squared distance, `kappa` is the confidence, `learning_rate` is Adam's.

    `pixel_margin` is the least distance of the starting pixels from 0 and 1: the package optimises in arctanh space, where 0 and 1 are
    infinite and never move.
    """

    c: Size
    kappa: Size
    steps: Count
    learning_rate: Size
    pixel_margin: Size
    batch_size: Count


def passes(parameters: Parameters, classes: int) -> tuple[Passes, Passes]:
    """Return the passes for an image, twice: they are the same whether it is broken or not."""
    cost = Passes(parameters.steps + 1, parameters.steps)
    return cost, cost


def attack(call: AttackCall, parameters: Parameters) -> AttackResult:
    """Run CW on positively shifted logits (see `Facade`).

    The example of an image is the nearest one that the package found, inside the radius or not, and the clean image if it found none.
    The attack claims success if the prediction is wrong and the L2 distance is at most the radius. It draws no random numbers. The
    package stops when the summed cost of a batch stops decreasing, so that the result for an image depends on the rest of its batch.
    """
    import torchattacks

    model, images, labels, threat = call.model, call.images, call.labels, call.threat
    package = torchattacks.CW(
        Facade(model, images.device, positive=True),
        c=parameters.c,
        kappa=parameters.kappa,
        steps=parameters.steps,
        lr=parameters.learning_rate,
    )
    examples = []
    wrong = []
    with counted(model, call.progress, "cw", ceil(len(images) / parameters.batch_size) * (parameters.steps + 1)):
        for batch, batch_labels in zip(torch.split(images, parameters.batch_size), torch.split(labels, parameters.batch_size), strict=True):
            start = batch.clamp(parameters.pixel_margin, 1 - parameters.pixel_margin)
            candidates = package(start, batch_labels).detach()
            is_unmoved = (candidates == start).flatten(1).all(1)
            examples.append(torch.where(is_unmoved[:, None, None, None], batch, candidates))
            wrong.append(predict(model, examples[-1]) != batch_labels)
    adversarial = torch.cat(examples)
    distance = L2.size(adversarial.double() - images.double())
    broken = torch.cat(wrong) & (distance <= threat.epsilon)
    return AttackResult(adversarial, tuple("cw" if success else None for success in broken.tolist()))


ADAPTER = Adapter("torchattacks-cw", version=1, parameters=Parameters, attack=attack, package="torchattacks", passes=passes)
