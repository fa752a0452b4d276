"""Signed-gradient ascent of a loss in the Linf ball: the loop of PGD (Madry et al., arXiv 1706.06083), which checks every iterate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from harness.attacks.native.losses import Loss, margin
from harness.randomness import image_generator
from harness.threats import LINF

# Maps logits [N, classes] and labels int64 [N] to whether each image leaves the batch, bool [N].
Stop = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Iterate:
    """One iterate of `iterates`, evaluated on the images that are still in the batch.

    Attributes
    ----------
    points : torch.Tensor
        Current point of every image, float32 [N, C, H, W]; later iterates write to the same tensor.
    rows : torch.Tensor
        Images that are still in the batch, int64 [M].
    losses : torch.Tensor
        Their losses, [M].
    stopped : torch.Tensor
        Whether each of them leaves the batch now, bool [M].
    gradient : torch.Tensor or None
        Gradient of their losses, float32 [M, C, H, W]. None after the last step, if all of them leave, or if the loss does not depend
        on the images for autograd (as in a network that computes with comparisons): then the points do not move.
    """

    points: torch.Tensor
    rows: torch.Tensor
    losses: torch.Tensor
    stopped: torch.Tensor
    gradient: torch.Tensor | None


def iterates(
    model: torch.nn.Module,
    loss: Loss,
    images: torch.Tensor,
    labels: torch.Tensor,
    start: torch.Tensor,
    epsilon: float,
    step: float,
    steps: int,
    stop: Stop,
) -> Iterator[Iterate]:
    """Ascend `loss` by signed gradient steps from `start`, projected onto the ball and the box.

    Yields the start and the iterate after each step, and ends early if all images left the batch.

    Parameters
    ----------
    images, start : torch.Tensor
        float32 [N, C, H, W] in [0, 1]; `start` must be inside the ball around `images`.
    epsilon, step : float
        In units of the [0, 1] range.
    stop : callable
        Decides which images leave the batch.
    """
    points, rows = start.clone(), torch.arange(len(images), device=images.device)
    for iteration in range(steps + 1):
        is_last = iteration == steps
        current = points[rows].requires_grad_(not is_last)
        logits = model(current)
        values = loss(logits, labels[rows])
        stopped = stop(logits.detach(), labels[rows])
        is_end = is_last or bool(stopped.all())
        gradient = torch.autograd.grad(values.sum(), current, allow_unused=True)[0] if values.requires_grad and not is_end else None
        yield Iterate(points, rows, values.detach(), stopped, gradient)
        if is_end:
            break
        rows, remaining = rows[~stopped], current.detach()[~stopped]
        if gradient is not None:
            points[rows] = LINF.project(remaining + step * gradient[~stopped].sign(), images[rows], epsilon)


def misclassified(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Stop images once they are misclassified."""
    return logits.argmax(1) != labels


def never(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Stop no image."""
    return torch.zeros_like(labels, dtype=torch.bool)


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
    """Run `iterates` until each image is misclassified by a margin of at least `confidence`.

    The example of an image is its first such iterate (the start and the last one included), or its last iterate if there is none.
    Parameters are as in `iterates`; `steps` must be at least 1.
    """

    def is_broken(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return misclassified(logits, labels) & (margin(logits, labels) >= confidence)

    broken = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    stuck, examples = 0, start
    for iteration, iterate in enumerate(iterates(model, loss, images, labels, start, epsilon, step, steps, is_broken)):
        examples = iterate.points
        broken[iterate.rows[iterate.stopped]] = True
        if iteration == 0:
            # A zero gradient on an image that is already broken is not counted.
            is_stuck = ~iterate.stopped if iterate.gradient is None else ~iterate.stopped & (iterate.gradient.flatten(1) == 0).all(1)
            stuck = int(is_stuck.sum())
    return Climb(examples, broken, stuck)


def random_start(images: torch.Tensor, epsilon: float, seed: int, restart: int) -> torch.Tensor:
    """Return a uniform random point of the ball for each image, clipped to [0, 1], float32 [N, 3, H, W].

    The noise of an image depends only on the seed, the restart and the pixels of the image.
    """
    noise = torch.empty(images.shape, dtype=images.dtype)
    for row, image in enumerate(images.cpu()):
        noise[row] = LINF.noise((1, *image.shape), epsilon, image_generator(image, seed, restart.to_bytes(8, "little")))[0]
    return (images + noise.to(images.device)).clamp(0.0, 1.0)
