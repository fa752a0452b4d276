"""PGD on the margin of Carlini and Wagner (arXiv 1608.04644, their loss f6) in Linf: our own, as no package has it.

The margin is what the cross-entropy saturates on: adding a constant to all logits or scaling them changes neither the sign of its
gradient nor the outcome, which makes this the scale-invariant twin of `pgd`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

import torch

from harness.attacks.losses import margin as loss
from harness.attacks.parameters import parse
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
                start = _random_start(images[rows], epsilon, seed, restart) if given.random_start else images[rows]
                zero, adversarial[rows], broken[rows] = _single_run(model, images[rows], labels[rows], start, epsilon, step, given)
                stuck += zero if restart == 0 else 0
    message = f"{stuck} of {len(images)} images had a zero gradient of the margin at the start point"
    flags = (Flag("zero-gradient", message),) if stuck else ()
    return AttackResult(adversarial, tuple("cw-linf" if success else None for success in broken.tolist()), flags)


def _single_run(
    model: torch.nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    start: torch.Tensor,
    epsilon: float,
    step: float,
    given: Parameters,
) -> tuple[int, torch.Tensor, torch.Tensor]:
    """One restart: how many images had no gradient at the start, the example of each image, and which are broken."""
    examples = start.clone()
    broken = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    stuck = 0
    rows = torch.arange(len(images), device=images.device)
    for iteration in range(given.steps + 1):
        last = iteration == given.steps
        current = examples[rows].requires_grad_(not last)
        logits = model(current)
        margin = loss(logits, labels[rows])
        success = (logits.detach().argmax(1) != labels[rows]) & (margin.detach() >= given.confidence)
        broken[rows[success]] = True
        if last or success.all():
            break
        (gradient,) = torch.autograd.grad(margin.sum(), current)
        if iteration == 0:
            # On images already broken a zero gradient means nothing: they are done.
            stuck = int((gradient[~success].flatten(1) == 0).all(1).sum())
        rows, moved, clean = rows[~success], current.detach()[~success], images[rows[~success]]
        moved = moved + step * gradient[~success].sign()
        examples[rows] = torch.min(torch.max(moved, clean - epsilon), clean + epsilon).clamp(0.0, 1.0)
    return stuck, examples, broken


def _random_start(images: torch.Tensor, epsilon: float, seed: int, restart: int) -> torch.Tensor:
    """Uniform in the ball, clipped to the box; the noise of an image depends on the seed, the restart and the image alone."""
    noise = torch.empty(images.shape, dtype=images.dtype)
    for row, image in enumerate(images.cpu().contiguous().numpy()):
        digest = hashlib.sha256(seed.to_bytes(8, "little") + restart.to_bytes(8, "little") + image.tobytes()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))
        noise[row].uniform_(-epsilon, epsilon, generator=generator)
    return (images + noise.to(images.device)).clamp(0.0, 1.0)
