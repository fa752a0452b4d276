"""Small measurements on a model's gradients and logits: what tells a model that is robust from one whose gradients are masked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from harness.attacks.native.ascent import random_start
from harness.attacks.native.losses import Loss, cross_entropy, margin
from harness.evaluation import thresholds

# Images in a batch of a probe.
BATCH = 250
_SEED = 0x3A5C


def zero_gradient(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, loss: Loss) -> torch.Tensor:
    """For each image, bool [N]: whether the gradient of `loss` with respect to it is exactly zero everywhere."""
    found = []
    for part, expected in zip(images.split(BATCH), labels.split(BATCH), strict=True):
        point = part.clone().requires_grad_(True)
        values = loss(model(point), expected).sum()
        if not values.requires_grad:
            found.append(torch.ones(len(part), dtype=torch.bool))
            continue
        (gradient,) = torch.autograd.grad(values, point, allow_unused=True)
        found.append(torch.ones(len(part), dtype=torch.bool) if gradient is None else (gradient.flatten(1) == 0).all(1))
    return torch.cat(found)


@dataclass(frozen=True)
class LogitScale:
    """How large logits are.

    Attributes
    ----------
    median_gap : float
        Median distance between the two largest logits.
    saturated : float
        Share of images for which float32 cross-entropy is exactly 0 or its largest softmax probability rounds to 1: there the loss
        cannot tell one point from its neighbour.
    """

    median_gap: float
    saturated: float


def logit_scale(model: nn.Module, images: torch.Tensor) -> LogitScale:
    """The scale of the logits on clean images [N, 3, H, W]."""
    with torch.no_grad():
        logits = torch.cat([model(part) for part in images.split(BATCH)])
    top = logits.topk(2, dim=1).values
    return LogitScale(float((top[:, 0] - top[:, 1]).median()), float((logits.softmax(1).max(1).values == 1.0).float().mean()))


@dataclass(frozen=True)
class Ascent:
    """What became of images under a gradient attack.

    Attributes
    ----------
    robust : torch.Tensor
        bool [N]: right at every point the attack visited.
    rising : torch.Tensor
        bool [N]: robust, and the loss rose in the last tenth of the steps by at least a tenth of all it rose: more steps would help.
    """

    robust: torch.Tensor
    rising: torch.Tensor


def ascend(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, epsilon: float, loss: Loss, steps: int, seed: int) -> Ascent:
    """Signed-gradient ascent of `loss` in the Linf ball from a random start, step 2.5 epsilon / steps, watching every point.

    An image leaves once it is broken; its random start depends on the seed and its own pixels.

    Parameters
    ----------
    images, labels : torch.Tensor
        float32 [N, C, H, W] in [0, 1] and int64 [N].
    """
    robust, rising = [], []
    for clean, expected in zip(images.split(BATCH), labels.split(BATCH), strict=True):
        point = random_start(clean, epsilon, seed, 0)
        rows = torch.arange(len(clean))
        losses = torch.zeros(steps + 1, len(clean))
        for step in range(steps + 1):
            asked = point[rows].requires_grad_(step < steps)
            logits = model(asked)
            values = loss(logits, expected[rows])
            losses[step, rows] = values.detach()
            right = logits.detach().argmax(1) == expected[rows]
            rows = rows[right]
            if step == steps or not len(rows):
                break
            gradient = torch.autograd.grad(values.sum(), asked, allow_unused=True)[0] if values.requires_grad else None
            if gradient is None:
                break
            moved = asked.detach()[right] + 2.5 * epsilon / steps * gradient[right].sign()
            point[rows] = torch.min(torch.max(moved, clean[rows] - epsilon), clean[rows] + epsilon).clamp(0.0, 1.0)
        is_robust = torch.zeros(len(clean), dtype=torch.bool)
        is_robust[rows] = True
        late, whole = losses[-1] - losses[-1 - max(1, steps // 10)], losses[-1] - losses[0]
        robust.append(is_robust)
        rising.append(is_robust & (late > 0.1 * whole) & (whole > 0))
    return Ascent(torch.cat(robust), torch.cat(rising))


def survives_noise(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, epsilon: float, draws: int, seed: int) -> torch.Tensor:
    """For each image, bool [N]: right under each of `draws` uniform perturbations within `epsilon`, without any gradient."""
    right = torch.ones(len(images), dtype=torch.bool)
    with torch.no_grad():
        for draw in range(draws):
            rows = right.nonzero().flatten()
            noisy = random_start(images[rows], epsilon, seed, draw)
            answers = [model(part).argmax(1) for part in noisy.split(BATCH)]
            right[rows] = torch.cat(answers) == labels[rows] if answers else right[rows]
    return right


def gradient_flags(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, epsilon: float) -> list[tuple[str, str]]:
    """Flags "zero-gradient" or "saturated", each with a sentence, of a model that gets `images` [N, 3, H, W] right; or none.

    Gradients are looked at on the images and at a random point within `epsilon` of each; the smaller share counts.
    """
    noise = torch.empty(images.shape).uniform_(-epsilon, epsilon, generator=torch.Generator().manual_seed(_SEED)).to(images)
    points = (images, (images + noise).clamp(0.0, 1.0))
    none, ce = (min(int(zero_gradient(model, at, labels, loss).sum()) for at in points) for loss in (margin, cross_entropy))
    if none > thresholds.ZERO_GRADIENT.value * len(images):
        return [("zero-gradient", f"{none} of {len(images)} images have no gradient of the margin")]
    if ce > thresholds.ZERO_GRADIENT_CE.value * len(images):
        gap = logit_scale(model, images).median_gap
        return [("saturated", f"{ce} of {len(images)} images have no gradient of the cross-entropy (logits {gap:.3g} apart)")]
    return []
