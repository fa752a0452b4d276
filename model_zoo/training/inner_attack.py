"""The attack inside adversarial training (Madry et al. 2018): PGD on the cross-entropy, gradients for the input alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F


@contextmanager
def input_gradients_only(model: nn.Module) -> Iterator[None]:
    """Turn off weight gradients and running-statistics updates inside; both are as before on exit."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    norms = [(module, module.momentum) for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
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


def pgd(
    forward: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    labels: torch.Tensor,
    epsilon: float,
    step: float,
    steps: int,
    generator: torch.Generator,
) -> torch.Tensor:
    """The last of `steps` signed-gradient iterates from a uniform start, projected to the Linf ball of `epsilon` and to [0, 1].

    Parameters
    ----------
    forward : callable
        Images float32 [N, 3, H, W] in [0, 1] to logits; call inside `input_gradients_only`.
    epsilon, step : float
        In units of the [0, 1] range.
    generator : torch.Generator
        On the CPU; source of the start.
    """
    start = torch.rand(images.shape, generator=generator).to(images).mul_(2.0).sub_(1.0).mul_(epsilon)
    lower, upper = (images - epsilon).clamp_(min=0.0), (images + epsilon).clamp_(max=1.0)
    adversarial = torch.minimum(torch.maximum(images + start, lower), upper)
    for _ in range(steps):
        adversarial.requires_grad_(True)
        loss = F.cross_entropy(forward(adversarial).float(), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, adversarial)
        moved = adversarial.detach().add_(gradient.sign_(), alpha=step)
        adversarial = torch.minimum(torch.maximum(moved, lower), upper)
    return adversarial.detach()
