"""Expectation over transformation: mean logits of a stochastic model over several draws."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import nn

from harness.randomness import isolated


class Expectation(nn.Module):
    """Mean logits of a stochastic model over `draws` forward passes (expectation over transformation, Athalye et al. 2018).

    Parameters
    ----------
    model : nn.Module
        Maps images [N, 3, H, W] to logits [N, classes] and draws from torch's global generator.
    draws : int
        Number of forward passes per call.
    seed : int, optional
        Unsigned 64-bit. With a seed, every call makes the same draws, so the mean is deterministic, and the global generators do not
        change. If None, each call makes new draws.
    """

    def __init__(self, model: nn.Module, draws: int, seed: int | None = None) -> None:
        super().__init__()
        self.model, self.draws, self.seed = model, draws, seed
        self.train(model.training)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return mean logits [N, classes] of images [N, 3, H, W]."""
        with nullcontext() if self.seed is None else isolated(self.seed):
            total: torch.Tensor = self.model(images)
            for _ in range(self.draws - 1):
                total = total + self.model(images)
        return total / self.draws
