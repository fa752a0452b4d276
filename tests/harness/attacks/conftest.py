"""Fixtures for the attack tests: a small trained model and images that it classifies correctly."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import pytest
import torch
from torch import nn

from harness import datasets
from harness.randomness import isolated
from model_zoo.threat import ThreatModel


@dataclass(frozen=True)
class Victim:
    """A trained model and the images of the shipped sample, [N, 3, 32, 32] in [0, 1], that it classifies correctly."""

    model: nn.Module
    images: torch.Tensor
    labels: torch.Tensor

    def first(self, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.images[:n], self.labels[:n]


@pytest.fixture(scope="session")
def victim() -> Victim:
    images, labels = datasets.load("cifar10-sample").tensors()
    with isolated(0):
        model = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 10))
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(150):
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.zero_grad()
    model.eval().requires_grad_(False)
    is_correct = model(images).argmax(1) == labels
    assert is_correct.float().mean() > 0.5
    return Victim(model, images[is_correct].contiguous(), labels[is_correct])


@pytest.fixture
def linf() -> ThreatModel:
    """Threat model with a radius at which the victim loses some images but not all."""
    return ThreatModel("Linf", Fraction(4, 255))


class Rewired(nn.Module):
    """The victim with a function applied to its logits."""

    def __init__(self, model: nn.Module, change) -> None:
        super().__init__()
        self.model = model
        self.change = change

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.change(self.model(images))


@pytest.fixture
def rewired():
    return lambda model, change: Rewired(model, change).eval()
