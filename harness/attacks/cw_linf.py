"""PGD on the margin of Carlini and Wagner (arXiv 1608.04644, their loss f6) in Linf: our own, as no package has it.

The margin is what the cross-entropy saturates on: adding a constant to all logits or scaling them changes neither the sign of its
gradient nor the outcome, which makes this the scale-invariant twin of `pgd`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

import torch

from harness.attacks.ascent import climb, random_start
from harness.attacks.losses import margin
from harness.attacks.parameters import parse
from harness.attacks.passes import Passes
from harness.attacks.progress import counted
from harness.attacks.spec import AttackResult, Flag
from model_zoo.threat import ThreatModel

PACKAGE = None
VERSION = 1


@dataclass(frozen=True)
class Parameters:
    """`step` is in units of the radius; an image counts as broken when it is misclassified by a margin of at least `confidence`."""

    confidence: float
    steps: int
    step: Fraction
    random_start: bool
    restarts: int
    batch_size: int


def passes(parameters: Mapping[str, Any], classes: int) -> tuple[Passes, Passes]:
    """What an image costs at most that the first restart breaks, and what one costs that survives."""
    given = parse(Parameters, parameters, "cw-linf")
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
    """Ascend `max z_other - z_y` by signed gradient steps, projected onto the ball and the box.

    An image keeps its first successful iterate (the start and the last one included) and leaves the batch; one that is never broken
    ends with its last iterate. The random start of an image is drawn from the seed and its own pixels, so that it does not depend on
    batch mates. Images whose gradient at the first start is zero everywhere are flagged "zero-gradient": the attack cannot move them.
    """
    given = parse(Parameters, parameters, "cw-linf")
    epsilon, step = threat.epsilon, float(threat.radius * given.step)
    adversarial = images.clone()
    broken = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    stuck = 0
    passes = ceil(len(images) / given.batch_size) * given.restarts * (given.steps + 1)
    with counted(model, progress, "cw-linf", passes):
        for batch in torch.split(torch.arange(len(images), device=images.device), given.batch_size):
            for restart in range(given.restarts):
                rows = batch[~broken[batch]]
                if not len(rows):
                    break
                start = random_start(images[rows], epsilon, seed, restart) if given.random_start else images[rows]
                run = climb(model, margin, images[rows], labels[rows], start, epsilon, step, given.steps, given.confidence)
                adversarial[rows], broken[rows] = run.examples, run.broken
                stuck += run.stuck if restart == 0 else 0
    message = f"{stuck} of {len(images)} images had a zero gradient of the margin at the start point"
    flags = (Flag("zero-gradient", message),) if stuck else ()
    return AttackResult(adversarial, tuple("cw-linf" if success else None for success in broken.tolist()), flags)
