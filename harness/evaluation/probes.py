"""Small measurements on a model's gradients and logits that distinguish a robust model from one with masked gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from harness.attacks.native.ascent import iterates, misclassified, random_start
from harness.attacks.native.losses import Loss, cross_entropy, margin
from harness.evaluation import thresholds
from harness.threats import L1, LINF
from model_zoo.threat import ThreatModel

# Images per batch.
BATCH = 250
_NOISE_SEED = 0x3A5C


def zero_gradient(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, loss: Loss) -> torch.Tensor:
    """Return, per image of [N, C, H, W], whether the gradient of `loss` with respect to it is exactly zero everywhere, bool [N]."""
    is_zero = []
    for part, expected in zip(images.split(BATCH), labels.split(BATCH), strict=True):
        point = part.clone().requires_grad_(True)
        values = loss(model(point), expected).sum()
        if not values.requires_grad:
            is_zero.append(torch.ones(len(part), dtype=torch.bool))
            continue
        (gradient,) = torch.autograd.grad(values, point, allow_unused=True)
        is_zero.append(torch.ones(len(part), dtype=torch.bool) if gradient is None else (gradient.flatten(1) == 0).all(1))
    return torch.cat(is_zero)


@dataclass(frozen=True)
class LogitScale:
    """Scale of a model's logits.

    Attributes
    ----------
    median_gap : float
        Median difference between the two largest logits.
    saturated : float
        Share of images whose largest softmax probability rounds to 1 in float32: there the cross-entropy hardly differs between
        neighbouring points.
    """

    median_gap: float
    saturated: float


def logit_scale(model: nn.Module, images: torch.Tensor) -> LogitScale:
    """Return the scale of the logits on clean images [N, 3, H, W]."""
    with torch.no_grad():
        logits = torch.cat([model(part) for part in images.split(BATCH)])
    largest = logits.topk(2, dim=1).values
    return LogitScale(float((largest[:, 0] - largest[:, 1]).median()), float((logits.softmax(1).max(1).values == 1.0).float().mean()))


@dataclass(frozen=True)
class Ascent:
    """Result of a gradient attack.

    Attributes
    ----------
    robust : torch.Tensor
        bool [N]: classified correctly at every point that the attack visited.
    rising : torch.Tensor
        bool [N]: robust, and more than a tenth of the loss's total rise came in the last tenth of the steps, so more steps would help.
    """

    robust: torch.Tensor
    rising: torch.Tensor


def ascend(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, epsilon: float, loss: Loss, steps: int, seed: int) -> Ascent:
    """Ascend `loss` by signed gradients in the Linf ball from a random start, with step 2.5 epsilon / steps, and check every point.

    An image is dropped once it is broken. Its random start depends only on the seed and its pixels.

    Parameters
    ----------
    images, labels : torch.Tensor
        float32 [N, C, H, W] in [0, 1] and int64 [N].
    epsilon : float
        Radius of the ball, in units of the [0, 1] pixel range.
    """
    robust, rising = [], []
    for clean, expected in zip(images.split(BATCH), labels.split(BATCH), strict=True):
        start, step = random_start(clean, epsilon, seed, 0), 2.5 * epsilon / steps
        losses = torch.zeros(steps + 1, len(clean))
        is_robust = torch.ones(len(clean), dtype=torch.bool)
        for position, iterate in enumerate(iterates(model, loss, clean, expected, start, epsilon, step, steps, misclassified)):
            losses[position, iterate.rows] = iterate.losses
            is_robust[iterate.rows[iterate.stopped]] = False
            if iterate.gradient is None:
                break
        late_rise, total_rise = losses[-1] - losses[-1 - max(1, steps // 10)], losses[-1] - losses[0]
        robust.append(is_robust)
        rising.append(is_robust & (late_rise > 0.1 * total_rise) & (total_rise > 0))
    return Ascent(torch.cat(robust), torch.cat(rising))


def survives_noise(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, epsilon: float, draws: int, seed: int) -> torch.Tensor:
    """Return, per image, whether it stays correctly classified under `draws` uniform perturbations within `epsilon`, bool [N]."""
    is_correct = torch.ones(len(images), dtype=torch.bool)
    with torch.no_grad():
        for draw in range(draws):
            rows = is_correct.nonzero().flatten()
            noisy = random_start(images[rows], epsilon, seed, draw)
            answers = [model(part).argmax(1) for part in noisy.split(BATCH)]
            is_correct[rows] = torch.cat(answers) == labels[rows] if answers else is_correct[rows]
    return is_correct


def gradient_flags(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, threat: ThreatModel) -> list[tuple[str, str]]:
    """Return the flag "zero-gradient" or "saturated" with a sentence if too many gradients are zero; an empty list otherwise.

    The model must classify `images` [N, 3, H, W] correctly. Zero gradients are counted at the images and at a random point within
    the radius of each, and the smaller count is used.
    """
    # Protocol 1 takes the noise of Linf under L2, too.
    norm = L1 if threat.norm == "L1" else LINF
    noise = norm.noise(images.shape, threat.epsilon, torch.Generator().manual_seed(_NOISE_SEED)).to(images)
    points = (images, (images + noise).clamp(0.0, 1.0))
    without_margin, without_ce = (
        min(int(zero_gradient(model, batch, labels, loss).sum()) for batch in points) for loss in (margin, cross_entropy)
    )
    if without_margin > thresholds.ZERO_GRADIENT.value * len(images):
        return [("zero-gradient", f"{without_margin} of {len(images)} images have no gradient of the margin")]
    if without_ce > thresholds.ZERO_GRADIENT_CE.value * len(images):
        gap = logit_scale(model, images).median_gap
        return [("saturated", f"{without_ce} of {len(images)} images have no gradient of the cross-entropy (logits {gap:.3g} apart)")]
    return []
