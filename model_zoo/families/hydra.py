"""HYDRA (Sehwag et al. 2020): train weights, learn scores that choose which to keep under the same loss, train the kept weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from model_zoo.families import Family
from model_zoo.layers.masked import MaskedConv2d, with_weights
from model_zoo.pruning.allocation import ADAPTIVE, allocated_counts, check_allocation
from model_zoo.pruning.scores import scaled
from model_zoo.pruning.stages import FINETUNE, SEARCH, Stages, stage_of


class ScoredConv2d(MaskedConv2d):
    """Masked convolution that keeps the `kept` weights of largest |score| while scores are trained."""

    kept = 0

    def refresh(self) -> None:
        """Choose the mask again after an optimiser step, while scores are trained."""
        if self.scores.requires_grad:
            self.keep_top(self.scores, self.kept)


def begin_search(layer: MaskedConv2d) -> None:
    """Initialise the scores as scaled weights, in the same way in all layers (the official code's `--scaled-score-init`)."""
    with torch.no_grad():
        layer.scores.copy_(scaled(layer.weight))


def choose(layer: MaskedConv2d) -> None:
    """Set the mask to the weights of largest |score|."""
    assert isinstance(layer, ScoredConv2d)
    layer.keep_top(layer.scores, layer.kept)


class Hydra(Stages):
    """Controller that trains all weights, then the scores, then the kept weights."""

    def __init__(self, network: nn.Module, options: Mapping[str, Any]) -> None:
        check_allocation(options["allocation"])
        super().__init__(network, options)
        self.scored = [layer for layer in self.layers if isinstance(layer, ScoredConv2d)]

    def at_epoch(self, epoch: int, epochs: int) -> None:
        """Enter the stage that the epoch belongs to."""
        stage = stage_of(self.options, epoch, epochs)
        if stage >= SEARCH:
            self.enter(SEARCH, begin_search)
            self.allocate()
        for layer in self.scored:
            if stage == SEARCH:
                layer.train_scores()
                layer.refresh()
            else:
                layer.train_weights()
        if stage == FINETUNE:
            self.enter(FINETUNE, choose)

    def after_step(self, progress: float) -> None:
        """Allocate again after an optimiser step of the search, before the layers choose their masks."""
        if int(self.stage) == SEARCH:
            self.allocate()

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore the stage, and allocate by the scores that the network has been restored to."""
        super().restore(state)
        self.after_step(0.0)

    def allocate(self) -> None:
        """Set how many weights each layer keeps."""
        counts = allocated_counts([layer.scores for layer in self.scored], self.options)
        for layer, count in zip(self.scored, counts, strict=True):
            layer.kept = count


FAMILY = Family(
    name="hydra",
    kind="sparse",
    method="sehwag2020",
    taxonomy={"when": "after", "scored": "learned", "structured": False, "scope": "local"},
    is_masked=True,
    convolution=lambda options: with_weights(ScoredConv2d, options["weights"]),
    affine=True,
    defaults={"keep_ratio": float, "pretrain_epochs": int, "search_epochs": int, "weights": "real"},
    # The original keeps the same fraction in every layer, which is allocation power 1.
    added={"allocation": ADAPTIVE, "allocation_power": 1.0},
    controller=Hydra,
)
