"""FlyingBird (Chen et al. 2022): adversarial training of a sparse network whose connections are exchanged throughout training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from model_zoo.families import Family
from model_zoo.layers.masked import MaskedConv2d, masked_layers, with_weights
from model_zoo.pruning.regrowth import balanced_counts, death_rate, drop_smallest, grow_random
from model_zoo.training.controller import Controller


class Rewiring(Controller):
    """Controller that exchanges connections after every `every` optimiser steps.

    In each layer it drops a share of the kept weights and grows as many at random; the draws follow from the seed and the step count.
    """

    stored: ClassVar[tuple[str, ...]] = ("steps",)

    def __init__(self, network: nn.Module, options: Mapping[str, Any]) -> None:
        self.layers, self.options = masked_layers(network), dict(options)
        self.steps = torch.zeros((), dtype=torch.long)
        self.seed = int(torch.randint(2**31, ()))

    def after_step(self, progress: float) -> None:
        """Exchange connections if `every` steps have passed; the share decreases during training."""
        self.steps += 1
        if int(self.steps) % self.options["every"] == 0:
            rate = death_rate(progress, self.options["death_rate"], self.options["last_death_rate"])
            generator = torch.Generator().manual_seed(self.seed + int(self.steps))
            for layer in self.layers:
                self.update(layer, rate, generator)

    def update(self, layer: MaskedConv2d, rate: float, generator: torch.Generator) -> None:
        """Exchange a share `rate` of one layer's connections; dropped positions may grow again, and grown weights start at zero."""
        count = math.ceil(rate * int(layer.mask.sum()))
        drop_smallest(layer, count)
        grow_random(layer, count, generator)


def draw_masks(network: nn.Module, keep_ratio: float) -> None:
    """Draw random masks, with layer densities by the balanced rule."""
    layers = masked_layers(network)
    for layer, kept in zip(layers, balanced_counts([layer.mask.numel() for layer in layers], keep_ratio), strict=True):
        layer.keep_top(torch.rand(layer.mask.shape), kept)


def prepare(network: nn.Module, options: Mapping[str, Any]) -> None:
    """Draw the initial masks."""
    draw_masks(network, options["keep_ratio"])


FAMILY = Family(
    name="flying-bird",
    kind="sparse",
    method="chen2022-flying-bird",
    taxonomy={"when": "during", "scored": "magnitude", "structured": False, "scope": "local"},
    is_masked=True,
    convolution=lambda options: with_weights(MaskedConv2d, options["weights"]),
    affine=True,
    defaults={"keep_ratio": float, "every": 100, "death_rate": 0.5, "last_death_rate": 0.005, "weights": "real"},
    prepare=prepare,
    controller=Rewiring,
)
