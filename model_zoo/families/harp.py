"""HARP (Zhao and Wressnegger 2023): HYDRA's stages, with a keep ratio per layer that is learned together with the scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from model_zoo.families import Convolution, Family, hydra
from model_zoo.layers.masked import MaskedConv2d
from model_zoo.layers.pruned_binary import keep_count
from model_zoo.pruning.stages import FINETUNE, SEARCH, Stages, stage_of


class RatedConv2d(hydra.ScoredConv2d):
    """Scored convolution that keeps the fraction sigmoid(logit) (1 - least) + least of its weights.

    The gradient of the fraction is the sum of the gradient of the mask.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        least: float = 0.0,
        initial: float = 0.5,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding)
        self.least = least
        share = (initial - least) / (1.0 - least)
        self.logit = nn.Parameter(torch.tensor(math.log(share / (1.0 - share))), requires_grad=False)

    def keep_ratio(self) -> torch.Tensor:
        """Return the kept fraction, a zero-dimensional tensor with a gradient."""
        return torch.sigmoid(self.logit) * (1.0 - self.least) + self.least

    def effective_weight(self) -> torch.Tensor:
        """Return the masked weight; the fraction gets a gradient while it is learned."""
        self.rate = self.keep_ratio() if self.logit.requires_grad and torch.is_grad_enabled() else None
        return super().effective_weight()

    def refresh(self) -> None:
        """Choose the mask again, with as many weights as the current fraction gives."""
        self.kept = keep_count(self.mask.numel(), self.keep_ratio().item())
        super().refresh()


class Harp(Stages):
    """Controller with HYDRA's stages.

    In the search, the penalty gamma max(keep ratio / target - 1, 0) reduces the fractions while the network is too large.
    """

    def __init__(self, network: nn.Module, options: Mapping[str, Any]) -> None:
        super().__init__(network, options)
        self.rated = [layer for layer in self.layers if isinstance(layer, RatedConv2d)]
        self.target, self.gamma = float(options["keep_ratio"]), float(options["gamma"])

    def keep_ratio(self) -> torch.Tensor:
        """Return the keep ratio of the whole network, a zero-dimensional tensor with a gradient."""
        sizes = [layer.mask.numel() for layer in self.rated]
        kept = torch.stack([layer.keep_ratio() * size for layer, size in zip(self.rated, sizes, strict=True)])
        return kept.sum() / sum(sizes)

    def penalty(self) -> torch.Tensor | float:
        """Return the penalty on the fractions while they are learned, 0 otherwise."""
        is_learning = self.rated[0].logit.requires_grad
        return self.gamma * torch.relu(self.keep_ratio() / self.target - 1.0) if is_learning else 0.0

    def at_epoch(self, epoch: int, epochs: int) -> None:
        """Enter the stage that the epoch belongs to. The search ends near the budget; all fractions are then scaled to meet it."""
        stage = stage_of(self.options, epoch, epochs)
        if stage >= SEARCH:
            self.enter(SEARCH, hydra.begin_search)
        for layer in self.rated:
            layer.logit.requires_grad_(stage == SEARCH)
            if stage == SEARCH:
                layer.train_scores()
                layer.refresh()
            else:
                layer.train_weights()
        if stage == FINETUNE:
            scale = self.target / self.keep_ratio().item()

            def prune(layer: MaskedConv2d) -> None:
                assert isinstance(layer, RatedConv2d)
                layer.keep_top(layer.scores, keep_count(layer.mask.numel(), min(1.0, layer.keep_ratio().item() * scale)))

            self.enter(FINETUNE, prune)


def convolution(options: Mapping[str, Any]) -> Convolution:
    """Return a layer factory with the initial and the least fraction from the options."""
    return partial(RatedConv2d, least=options["least"] * options["keep_ratio"], initial=options["initial_keep_ratio"])


FAMILY = Family(
    name="harp",
    kind="sparse",
    method="zhao2023",
    taxonomy={"when": "after", "scored": "learned", "structured": False, "scope": "global"},
    is_masked=True,
    convolution=convolution,
    affine=True,
    # `least` is a share of the keep ratio; gamma is that of the official instructions, 0.01 times the epoch, halfway through 20 epochs.
    defaults={"keep_ratio": float, "pretrain_epochs": int, "search_epochs": int, "initial_keep_ratio": float, "least": 0.1, "gamma": 0.1},
    controller=Harp,
)
