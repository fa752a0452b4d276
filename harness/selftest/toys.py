"""Tiny networks for the self-test, trained in seconds on real images: 192 inputs (8 x 8 pixels), 256 hidden units, 10 classes.

With them the mechanisms of gradient masking can be shown one by one. They are right on nearly all of their training images, which are also
those that are attacked.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from harness import datasets
from model_zoo.threat import ThreatModel

IMAGES = 250
THREAT = ThreatModel("Linf", Fraction(1, 25))
Activation = Callable[[torch.Tensor], torch.Tensor]


class Toy(nn.Module):
    """Images in [0, 1] to logits: 4 x 4 average pooling, a hidden layer with `activation`, logits times `scale`."""

    def __init__(self, activation: Activation, scale: float = 1.0) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(192, 256), nn.Linear(256, 10)
        self.activation, self.scale = activation, scale

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N, 10]."""
        pixels = F.avg_pool2d(images, 4).flatten(1) - 0.5
        logits: torch.Tensor = self.out(self.activation(self.hidden(pixels))) * self.scale
        return logits


class _Sign(torch.autograd.Function):
    """sign with sign(0) = +1; the gradient passes where |input| is at most `window`, times `factor`."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, window: float, factor: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward((inputs.abs() <= window) * factor)
        return torch.where(inputs < 0, -1.0, 1.0)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradients[0] * ctx.saved_tensors[0], None, None


def sign(window: float, factor: float | torch.Tensor = 1.0) -> Activation:
    """A sign activation with a straight-through gradient inside the window; window 0 is the true gradient, zero."""
    return lambda inputs: _Sign.apply(inputs, window, torch.as_tensor(factor))  # type: ignore[no-untyped-call]


@cache
def images() -> tuple[torch.Tensor, torch.Tensor]:
    """The images that are trained on and attacked, float32 [N, 3, 32, 32], and labels."""
    return datasets.load("cifar10-sample").first(IMAGES).tensors()


@cache
def _trained(kind: str) -> dict[str, torch.Tensor]:
    x, y = images()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Toy(torch.relu if kind == "relu" else sign(1.0))
        optimiser = torch.optim.Adam(model.parameters(), 0.003)
        for _ in range(400):
            optimiser.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimiser.step()
    return model.state_dict()


def toy(kind: str, activation: Activation | None = None, scale: float = 1.0) -> Toy:
    """A trained toy, frozen and in eval mode.

    Parameters
    ----------
    kind : str
        What it was trained with: "relu" or "sign" (straight-through within 1).
    activation : callable, optional
        What it computes with instead; the forward pass must be the same for the weights to make sense.
    scale : float
        Factor of the logits.
    """
    weights = _trained(kind)
    with torch.random.fork_rng(devices=[]):
        model = Toy(activation or (torch.relu if kind == "relu" else sign(1.0)), scale)
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False)
