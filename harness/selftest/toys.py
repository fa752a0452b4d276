"""Tiny networks for the self-test, trained in seconds on real images; each classifies nearly all of its training images correctly.

The training images are also the ones that are attacked. Such networks show the mechanisms of gradient masking one by one.
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
from harness.datasets.base import ImageSet
from harness.threats import LINF
from model_zoo.threat import ThreatModel

IMAGES = 250
THREAT = ThreatModel("Linf", Fraction(1, 25))
Activation = Callable[[torch.Tensor], torch.Tensor]


class Toy(nn.Module):
    """Network from images in [0, 1] to logits: 4 x 4 average pooling, 256 hidden units with `activation`, logits times `scale`."""

    def __init__(self, activation: Activation, scale: float = 1.0) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(192, 256), nn.Linear(256, 10)
        self.activation, self.scale = activation, scale

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits, [N, 10], of images [N, 3, 32, 32]."""
        pixels = F.avg_pool2d(images, 4).flatten(1) - 0.5
        logits: torch.Tensor = self.out(self.activation(self.hidden(pixels))) * self.scale
        return logits


class _Sign(torch.autograd.Function):
    """Sign with sign(0) = +1; the gradient passes, times `factor`, if |input| is at most `window`."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, window: float, factor: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward((inputs.abs() <= window) * factor)
        return torch.where(inputs < 0, -1.0, 1.0)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradients[0] * ctx.saved_tensors[0], None, None


def sign(window: float, factor: float | torch.Tensor = 1.0) -> Activation:
    """Return a sign activation with a straight-through gradient inside the window; window 0 gives the true gradient, zero."""
    return lambda inputs: _Sign.apply(inputs, window, torch.as_tensor(factor))  # type: ignore[no-untyped-call]


@cache
def block() -> ImageSet:
    """Return the images that are trained on and attacked."""
    return datasets.load("cifar10-sample").first(IMAGES)


@cache
def images() -> tuple[torch.Tensor, torch.Tensor]:
    """Return the same as tensors, float32 [N, 3, 32, 32] in [0, 1], and their labels, int64 [N]."""
    return block().tensors()


def _fit(make: Callable[[], nn.Module], seed: int, steps: int, attack_steps: int = 0) -> dict[str, torch.Tensor]:
    """Return a network's weights after `steps` steps of Adam on all the images, or on their PGD examples at 8/255 if `attack_steps` > 0."""
    x, y = images()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make()
        optimiser = torch.optim.Adam(model.parameters(), 0.003)
        for _ in range(steps):
            attacked_x = _attack(model, x, y, attack_steps)
            optimiser.zero_grad()
            F.cross_entropy(model(attacked_x), y).backward()
            optimiser.step()
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def _attack(model: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int) -> torch.Tensor:
    epsilon, examples = 8 / 255, x
    for _ in range(steps):
        point = examples.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(point), y), point)
        stepped = examples + 2.5 * epsilon / steps * gradient.sign()
        examples = LINF.project(stepped, x, epsilon)
    return examples


@cache
def _toy_weights(kind: str, seed: int) -> dict[str, torch.Tensor]:
    return _fit(lambda: Toy(torch.relu if kind == "relu" else sign(1.0)), seed, 400)


@cache
def _convolutional_weights(seed: int, attack_steps: int) -> dict[str, torch.Tensor]:
    return _fit(_convolutions, seed, 100, attack_steps)


def _convolutions() -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 24), (24, 48), (48, 48)):
        layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(48 * 16, 10))


def toy(kind: str, activation: Activation | None = None, scale: float = 1.0, seed: int = 0) -> Toy:
    """Return a trained toy network, frozen and in eval mode.

    Parameters
    ----------
    kind : str
        Activation of the training: "relu" or "sign" (straight-through within 1).
    activation : callable, optional
        Activation that replaces it; its forward pass must be the same for the weights to make sense.
    scale : float
        Factor of the logits.
    seed : int
        Seed of the initial weights.
    """
    weights = _toy_weights(kind, seed)
    with torch.random.fork_rng(devices=[]):
        model = Toy(activation or (torch.relu if kind == "relu" else sign(1.0)), scale)
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False)


def undefended(seed: int = 0) -> nn.Module:
    """Return a network of three convolutions that was trained without adversarial images, frozen and in eval mode."""
    return _trained_convolutions(seed, 0)


def defended(seed: int = 0) -> nn.Module:
    """Return the same network trained adversarially; it has memorised its training images, which are those attacked."""
    return _trained_convolutions(seed, 3)


def _trained_convolutions(seed: int, attack_steps: int) -> nn.Module:
    weights = _convolutional_weights(seed, attack_steps)
    with torch.random.fork_rng(devices=[]):
        model = _convolutions()
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False)
