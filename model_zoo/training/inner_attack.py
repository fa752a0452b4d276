"""Shared parts of attacks inside training: input gradients only, projection, and PGD on the cross-entropy (Madry et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F

Forward = Callable[[torch.Tensor], torch.Tensor]


@contextmanager
def input_gradients_only(model: nn.Module, keep_statistics: bool = True) -> Iterator[None]:
    """Turn off parameter gradients and, with `keep_statistics`, updates of running statistics inside the block; restore both on exit."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    norms = [(module, module.momentum) for module in model.modules() if isinstance(module, nn.BatchNorm2d) and keep_statistics]
    try:
        for parameter in trainable:
            parameter.requires_grad_(False)
        for norm, _ in norms:
            norm.momentum = 0.0
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
        for norm, momentum in norms:
            norm.momentum = momentum


def project(adversarial: torch.Tensor, images: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Return the images nearest to `adversarial` that are within `epsilon` of `images` in every pixel and inside [0, 1]."""
    lower, upper = (images - epsilon).clamp_(min=0.0), (images + epsilon).clamp_(max=1.0)
    return torch.minimum(torch.maximum(adversarial, lower), upper)


def pgd(
    forward: Forward,
    images: torch.Tensor,
    labels: torch.Tensor,
    epsilon: float,
    step: float,
    steps: int,
    uniform: torch.Tensor,
    best: bool = False,
) -> torch.Tensor:
    """Return adversarial images: `steps` signed-gradient steps from a random start, projected to the Linf ball of `epsilon` and to [0, 1].

    Parameters
    ----------
    forward : callable
        Maps images float32 [N, 3, H, W] in [0, 1] to logits [N, classes]; `pgd` must be called inside `input_gradients_only`.
    epsilon, step : float
        Radius and step size, in units of the [0, 1] range.
    uniform : torch.Tensor
        The start as a position in the ball: values in [0, 1), of the shape of `images`, that are mapped to [-epsilon, epsilon).
    best : bool
        Return, per image, the point of highest loss among those evaluated (the start and all moves but the last), as the official code
        does, instead of the last point.
    """
    start = uniform.mul(2.0).sub_(1.0).mul_(epsilon)
    adversarial = project(images + start, images, epsilon)
    highest = torch.full(labels.shape, -torch.inf, device=images.device)
    worst = adversarial
    for _ in range(steps):
        adversarial.requires_grad_(True)
        losses = F.cross_entropy(forward(adversarial).float(), labels, reduction="none")
        (gradient,) = torch.autograd.grad(losses.sum(), adversarial)
        adversarial = adversarial.detach()
        if best:
            higher = losses.detach() > highest
            highest = torch.where(higher, losses.detach(), highest)
            worst = torch.where(higher[:, None, None, None], adversarial, worst)
        adversarial = project(adversarial.add(gradient.sign_(), alpha=step), images, epsilon)
    return worst if best else adversarial
