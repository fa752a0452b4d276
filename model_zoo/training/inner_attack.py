"""What attacks inside training share: no weight gradients, projection, and PGD on the cross-entropy (Madry et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F

Forward = Callable[[torch.Tensor], torch.Tensor]


@contextmanager
def input_gradients_only(model: nn.Module, keep_statistics: bool = True) -> Iterator[None]:
    """Turn off weight gradients inside, and updates of running statistics where `keep_statistics`; both are as before on exit."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    norms = [(module, module.momentum) for module in model.modules() if isinstance(module, nn.BatchNorm2d) and keep_statistics]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        for norm, _ in norms:
            norm.momentum = 0.0
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        for norm, momentum in norms:
            norm.momentum = momentum


def project(adversarial: torch.Tensor, images: torch.Tensor, epsilon: float) -> torch.Tensor:
    """The nearest images within `epsilon` of `images` in every pixel and inside [0, 1]."""
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
    """`steps` signed-gradient steps from a random start, projected to the Linf ball of `epsilon` and to [0, 1].

    Parameters
    ----------
    forward : callable
        Images float32 [N, 3, H, W] in [0, 1] to logits; call inside `input_gradients_only`.
    epsilon, step : float
        In units of the [0, 1] range.
    uniform : torch.Tensor
        Of the shape of `images`, values from [0, 1): the start, as a place in the ball.
    best : bool
        Return, for each image, the point of highest loss among those evaluated (the start and all but the last move), as the official
        code does, instead of the last point.
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
