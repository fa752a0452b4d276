"""Signed-gradient ascent of a loss in the Linf ball: the loop of PGD (Madry et al., arXiv 1706.06083), with every iterate looked at."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from harness.attacks.native.losses import Loss, margin
from harness.randomness import image_generator


@dataclass(frozen=True)
class Climb:
    """One run: the example of each image, float32 [N, 3, H, W]; which are broken, bool [N]; how many had no gradient at the start."""

    examples: torch.Tensor
    broken: torch.Tensor
    stuck: int


def climb(
    model: torch.nn.Module,
    loss: Loss,
    images: torch.Tensor,
    labels: torch.Tensor,
    start: torch.Tensor,
    epsilon: float,
    step: float,
    steps: int,
    confidence: float = 0.0,
) -> Climb:
    """Ascend `loss` by signed gradient steps from `start`, projected onto the ball and the box.

    An image keeps its first iterate that is misclassified by a margin of at least `confidence` (the start and the last one included)
    and leaves the batch; one that is never broken ends with its last iterate.

    Parameters
    ----------
    images, start : torch.Tensor
        float32 [N, 3, H, W] in [0, 1]; `start` inside the ball around `images`.
    epsilon, step : float
        In units of the [0, 1] range.
    """
    examples = start.clone()
    broken = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    stuck = 0
    rows = torch.arange(len(images), device=images.device)
    for iteration in range(steps + 1):
        last = iteration == steps
        current = examples[rows].requires_grad_(not last)
        logits = model(current)
        success = (logits.detach().argmax(1) != labels[rows]) & (margin(logits.detach(), labels[rows]) >= confidence)
        broken[rows[success]] = True
        if last or success.all():
            break
        gradient = _gradient(loss(logits, labels[rows]).sum(), current)
        if iteration == 0:
            # On images already broken a zero gradient means nothing: they are done.
            stuck = int((gradient[~success].flatten(1) == 0).all(1).sum())
        rows, moved, clean = rows[~success], current.detach()[~success], images[rows[~success]]
        moved = moved + step * gradient[~success].sign()
        examples[rows] = torch.min(torch.max(moved, clean - epsilon), clean + epsilon).clamp(0.0, 1.0)
    return Climb(examples, broken, stuck)


def _gradient(value: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
    """Zero where the value does not depend on the point, as with a network that computes with comparisons."""
    found = torch.autograd.grad(value, point, allow_unused=True)[0] if value.requires_grad else None
    return torch.zeros_like(point) if found is None else found


def random_start(images: torch.Tensor, epsilon: float, seed: int, restart: int) -> torch.Tensor:
    """Uniform in the ball, clipped to the box; the noise of an image depends on the seed, the restart and the image alone."""
    noise = torch.empty(images.shape, dtype=images.dtype)
    for row, image in enumerate(images.cpu()):
        generator = image_generator(image, seed, restart.to_bytes(8, "little"))
        noise[row].uniform_(-epsilon, epsilon, generator=generator)
    return (images + noise.to(images.device)).clamp(0.0, 1.0)
