"""PGD on the margin of Carlini and Wagner (arXiv 1608.04644, their loss f6) in Linf, implemented here because no package has it.

Unlike the cross-entropy, the margin does not saturate: adding a constant to all logits or scaling them changes neither the sign of its
gradient nor the outcome, so that this is the scale-invariant counterpart of `pgd`.
"""

from __future__ import annotations

from math import ceil

import torch

from harness.attacks.common import Adapter, AttackCall, AttackResult, Flag
from harness.attacks.native.ascent import climb, random_start
from harness.attacks.native.losses import margin
from harness.attacks.parameters import RestartedAscent, Size
from harness.attacks.passes import passes_of_restarts
from harness.attacks.progress import counted


class Parameters(RestartedAscent):
    """An image counts as broken if it is misclassified by a margin of at least `confidence`."""

    confidence: Size


def attack(call: AttackCall, parameters: Parameters) -> AttackResult:
    """Ascend `max z_other - z_y` by signed gradient steps, projected onto the ball and the box.

    The example of an image is its first successful iterate (the start and the last one included), after which it leaves the batch, or
    its last iterate if it is never broken. The random start of an image is drawn from the seed, the restart and its pixels, so that it
    does not depend on the rest of the batch. Images whose gradient is zero everywhere at the first start point are reported by a flag
    "zero-gradient": the attack cannot move them.
    """
    model, images, labels, threat = call.model, call.images, call.labels, call.threat
    epsilon, step = threat.epsilon, float(threat.radius * parameters.step)
    adversarial = images.clone()
    broken = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    stuck = 0
    expected = ceil(len(images) / parameters.batch_size) * parameters.restarts * (parameters.steps + 1)
    with counted(model, call.progress, "cw-linf", expected):
        for batch in torch.split(torch.arange(len(images), device=images.device), parameters.batch_size):
            for restart in range(parameters.restarts):
                rows = batch[~broken[batch]]
                if not len(rows):
                    break
                start = random_start(images[rows], epsilon, call.seed, restart) if parameters.random_start else images[rows]
                result = climb(model, margin, images[rows], labels[rows], start, epsilon, step, parameters.steps, parameters.confidence)
                adversarial[rows], broken[rows] = result.examples, result.broken
                stuck += result.stuck if restart == 0 else 0
    message = f"{stuck} of {len(images)} images had a zero gradient of the margin at the start point"
    flags = (Flag("zero-gradient", message),) if stuck else ()
    return AttackResult(adversarial, tuple("cw-linf" if success else None for success in broken.tolist()), flags)


ADAPTER = Adapter("cw-linf", version=1, parameters=Parameters, attack=attack, passes=passes_of_restarts)
