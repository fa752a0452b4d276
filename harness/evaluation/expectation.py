"""Models that toss coins, made fit to be attacked and judged: the mean of their logits over several draws."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import nn

from harness.randomness import isolated


class Expectation(nn.Module):
    """The mean of a stochastic model's logits over `draws` forward passes (expectation over transformation, Athalye et al. 2018).

    Parameters
    ----------
    model : nn.Module
        Images [N, 3, H, W] to logits [N, classes], drawing from torch's global generator.
    seed : int, optional
        Unsigned 64-bit: every call makes the same draws, so that this is a deterministic model, and leaves the generator alone. None: each
        call makes new ones.
    """

    def __init__(self, model: nn.Module, draws: int, seed: int | None = None) -> None:
        super().__init__()
        self.model, self.draws, self.seed = model, draws, seed
        self.train(model.training)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Mean logits [N, classes]."""
        with nullcontext() if self.seed is None else isolated(self.seed):
            total: torch.Tensor = self.model(images)
            for _ in range(self.draws - 1):
                total = total + self.model(images)
        return total / self.draws
