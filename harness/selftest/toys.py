"""Tiny networks for the self-test, trained in seconds on real images; each is right on nearly all of the images it was trained on.

Those images are also the ones that are attacked. With such networks the mechanisms of gradient masking can be shown one by one.
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
    """Images in [0, 1] to logits: 4 x 4 average pooling, a hidden layer of 256 units with `activation`, logits times `scale`."""

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


def _fit(make: Callable[[], nn.Module], seed: int, steps: int, attack_steps: int = 0) -> dict[str, torch.Tensor]:
    """The weights of a network after so many steps of Adam on all the images, or on those PGD makes of them at 8/255."""
    x, y = images()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make()
        optimiser = torch.optim.Adam(model.parameters(), 0.003)
        for _ in range(steps):
            shown = _attacked(model, x, y, attack_steps)
            optimiser.zero_grad()
            F.cross_entropy(model(shown), y).backward()
            optimiser.step()
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def _attacked(model: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int) -> torch.Tensor:
    epsilon, shown = 8 / 255, x
    for _ in range(steps):
        point = shown.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(point), y), point)
        moved = shown + 2.5 * epsilon / steps * gradient.sign()
        shown = torch.min(torch.max(moved, x - epsilon), x + epsilon).clamp(0.0, 1.0)
    return shown


@cache
def _toy_weights(kind: str, seed: int) -> dict[str, torch.Tensor]:
    return _fit(lambda: Toy(torch.relu if kind == "relu" else sign(1.0)), seed, 400)


@cache
def _convolutional_weights(seed: int, attack_steps: int) -> dict[str, torch.Tensor]:
    return _fit(_convolutions, seed, 100, attack_steps)


def _convolutions() -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in ((3, 24), (24, 48), (48, 48)):
        layers += [nn.Conv2d(before, after, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(48 * 16, 10))


def toy(kind: str, activation: Activation | None = None, scale: float = 1.0, seed: int = 0) -> Toy:
    """A trained toy, frozen and in eval mode.

    Parameters
    ----------
    kind : str
        What it was trained with: "relu" or "sign" (straight-through within 1).
    activation : callable, optional
        What it computes with instead; the forward pass must be the same for the weights to make sense.
    scale : float
        Factor of the logits.
    seed : int
        Of its first weights.
    """
    weights = _toy_weights(kind, seed)
    with torch.random.fork_rng(devices=[]):
        model = Toy(activation or (torch.relu if kind == "relu" else sign(1.0)), scale)
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False)


def undefended(seed: int = 0) -> nn.Module:
    """A network of three convolutions that was never shown an adversarial image, frozen and in eval mode."""
    return _convolutional(seed, 0)


def defended(seed: int = 0) -> nn.Module:
    """The same, adversarially trained: its images, which are those attacked, are learned by heart."""
    return _convolutional(seed, 3)


def _convolutional(seed: int, attack_steps: int) -> nn.Module:
    weights = _convolutional_weights(seed, attack_steps)
    with torch.random.fork_rng(devices=[]):
        model = _convolutions()
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False)
