"""Signed-gradient ascent of a loss in the Linf ball: the loop of PGD (Madry et al., arXiv 1706.06083), which checks every iterate."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from harness.attacks.native.losses import Loss, margin
from harness.randomness import image_generator


@dataclass(frozen=True)
class Climb:
    """Result of one run of `climb`.

    Attributes
    ----------
    examples : torch.Tensor
        Example of each image, float32 [N, 3, H, W].
    broken : torch.Tensor
        Whether each image is broken, bool [N].
    stuck : int
        Number of images that were not broken at the start point and whose gradient was zero there.
    """

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

    The example of an image is its first iterate (the start and the last one included) that is misclassified by a margin of at least
    `confidence`; the image then leaves the batch. The example of an image that is never broken is its last iterate.

    Parameters
    ----------
    images, start : torch.Tensor
        float32 [N, 3, H, W] in [0, 1]; `start` must be inside the ball around `images`.
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
    """Return the gradient of `value`, zero if it does not depend on `point` (as in a network that computes with comparisons)."""
    found = torch.autograd.grad(value, point, allow_unused=True)[0] if value.requires_grad else None
    return torch.zeros_like(point) if found is None else found


def random_start(images: torch.Tensor, epsilon: float, seed: int, restart: int) -> torch.Tensor:
    """Return a uniform random point of the ball for each image, clipped to [0, 1], float32 [N, 3, H, W].

    The noise of an image depends only on the seed, the restart and the pixels of the image.
    """
    noise = torch.empty(images.shape, dtype=images.dtype)
    for row, image in enumerate(images.cpu()):
        generator = image_generator(image, seed, restart.to_bytes(8, "little"))
        noise[row].uniform_(-epsilon, epsilon, generator=generator)
    return (images + noise.to(images.device)).clamp(0.0, 1.0)
