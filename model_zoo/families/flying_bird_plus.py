"""FlyingBird+ (Chen et al. 2022): FlyingBird with a density that follows the training curve.

If the gap between robust accuracy on training and on held-out images has been growing, an exchange drops more connections than it grows;
if held-out robustness has been falling, it grows more. For the latter, the official code uses the held-out robust loss; this code uses
the accuracy, which the curve contains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import nn

from model_zoo.errors import UsageError
from model_zoo.families import Family
from model_zoo.families.flying_bird import Rewiring, prepare
from model_zoo.layers.masked import MaskedConv2d, with_weights
from model_zoo.pruning.regrowth import drop_smallest, grow_random
from model_zoo.training.curve import EpochRecord

# Least share of the last differences that must have the same direction.
SHARE = 0.5


class AdaptiveRewiring(Rewiring):
    """Controller that exchanges connections; after a fraction `begin` of training, it drops or grows more of them as the curve requires."""

    stored: ClassVar[tuple[str, ...]] = (*Rewiring.stored, "overfits", "falls")

    def __init__(self, network: nn.Module, options: Mapping[str, Any]) -> None:
        super().__init__(network, options)
        self.overfits, self.falls = torch.zeros((), dtype=torch.bool), torch.zeros((), dtype=torch.bool)
        self.late = False

    def after_step(self, progress: float) -> None:
        """Exchange connections as in `Rewiring`."""
        self.late = progress > self.options["begin"]
        super().after_step(progress)

    def update(self, layer: MaskedConv2d, rate: float, generator: torch.Generator) -> None:
        """Exchange a share `rate` of one layer's connections.

        If the curve requires it, drop a further `extra_drop` of that number, or grow a further `extra_growth` of it.
        """
        kept = int(layer.mask.sum())
        dropped = grown = math.ceil(rate * kept)
        if self.late and bool(self.overfits):
            dropped += math.ceil(rate * self.options["extra_drop"] * kept)
        if self.late and bool(self.falls):
            grown += int(self.options["extra_growth"] * grown)
        # A layer keeps at least one weight and cannot grow more than it has free positions.
        dropped = min(dropped, kept - 1)
        drop_smallest(layer, dropped)
        grow_random(layer, min(grown, layer.mask.numel() - kept + dropped), generator)

    def after_epoch(self, curve: Sequence[EpochRecord]) -> None:
        """Judge the last `window` changes between epochs, for the next exchange; raises UsageError if there are no held-out images."""
        robust = [record.hold_out_pgd_accuracy for record in curve]
        if any(math.isnan(accuracy) for accuracy in robust):
            raise UsageError("family 'flying-bird-plus' needs held-out images: its density follows their robust accuracy")
        gaps = [record.train_robust_accuracy - hold_out for record, hold_out in zip(curve, robust, strict=True)]
        self.overfits.fill_(_mostly([after > before for before, after in _changes(gaps, self.options["window"])]))
        self.falls.fill_(_mostly([after <= before for before, after in _changes(robust, self.options["window"])]))


def _changes(values: Sequence[float], window: int) -> list[tuple[float, float]]:
    return list(pairwise(values))[-window:]


def _mostly(conditions: Sequence[bool]) -> bool:
    return bool(conditions) and sum(conditions) >= SHARE * len(conditions)


FAMILY = Family(
    name="flying-bird-plus",
    kind="sparse",
    method="chen2022-flying-bird-plus",
    taxonomy={"when": "during", "scored": "magnitude", "structured": False, "scope": "local"},
    is_masked=True,
    moves_keep_ratio=True,
    convolution=lambda options: with_weights(MaskedConv2d, options["weights"]),
    affine=True,
    defaults={
        "keep_ratio": float,
        "every": 100,
        "death_rate": 0.5,
        "last_death_rate": 0.005,
        "begin": 0.5,
        "window": 4,
        "extra_drop": 0.4,
        "extra_growth": 0.05,
    },
    added={"weights": "real"},
    prepare=prepare,
    controller=AdaptiveRewiring,
)
