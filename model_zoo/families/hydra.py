"""HYDRA (Sehwag et al. 2020): train weights, learn scores that choose which to keep under the same loss, train the kept weights."""

from __future__ import annotations

import torch

from model_zoo.families import Family
from model_zoo.layers.masked import MaskedConv2d, with_weights
from model_zoo.pruning.scores import scaled
from model_zoo.pruning.stages import FINETUNE, SEARCH, Stages, stage_of, uniform_count


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


class Hydra(Stages):
    """Controller that trains all weights, then the scores, then the kept weights."""

    def at_epoch(self, epoch: int, epochs: int) -> None:
        """Enter the stage that the epoch belongs to."""
        stage, keep_ratio = stage_of(self.options, epoch, epochs), self.options["keep_ratio"]
        for layer in self.layers:
            assert isinstance(layer, ScoredConv2d)
            layer.kept = uniform_count(layer, keep_ratio)
        if stage >= SEARCH:
            self.enter(SEARCH, begin_search)
        for layer in self.layers:
            if stage == SEARCH:
                layer.train_scores()
                layer.refresh()
            else:
                layer.train_weights()
        if stage == FINETUNE:
            self.enter(FINETUNE, lambda layer: layer.keep_top(layer.scores, uniform_count(layer, keep_ratio)))


FAMILY = Family(
    name="hydra",
    kind="sparse",
    method="sehwag2020",
    taxonomy={"when": "after", "scored": "learned", "structured": False, "scope": "local"},
    is_masked=True,
    convolution=lambda options: with_weights(ScoredConv2d, options["weights"]),
    affine=True,
    defaults={"keep_ratio": float, "pretrain_epochs": int, "search_epochs": int, "weights": "real"},
    controller=Hydra,
)
