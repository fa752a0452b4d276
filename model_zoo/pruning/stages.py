"""Pruning in stages: train all weights, choose which to keep, train the kept weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from model_zoo.errors import UsageError
from model_zoo.layers.masked import MaskedConv2d, masked_layers
from model_zoo.layers.pruned_binary import keep_count
from model_zoo.training.controller import Controller

PRETRAIN, SEARCH, FINETUNE = 0, 1, 2


def stage_of(options: Mapping[str, Any], epoch: int, epochs: int) -> int:
    """Return the stage of an epoch counted from 0; the last stage takes all epochs after the first two.

    Raises
    ------
    UsageError
        If a stage has a negative length or no epoch remains for the last one.
    """
    first, second = options["pretrain_epochs"], options.get("search_epochs", 0)
    if first < 0 or second < 0 or first + second >= epochs:
        raise UsageError(f"{first} epochs before pruning and {second} of search leave none of the {epochs} epochs for the kept weights")
    return PRETRAIN if epoch < first else SEARCH if epoch < first + second else FINETUNE


class Stages(Controller):
    """Controller of a method in stages; `stage` is the latest stage that the masked layers have entered."""

    stored: ClassVar[tuple[str, ...]] = ("stage",)

    def __init__(self, network: nn.Module, options: Mapping[str, Any]) -> None:
        self.layers, self.options = masked_layers(network), dict(options)
        self.stage = torch.zeros((), dtype=torch.long)

    def enter(self, stage: int, begin: Callable[[MaskedConv2d], None]) -> None:
        """Call `begin` with every masked layer, unless the layers have entered `stage` before."""
        if int(self.stage) < stage:
            for layer in self.layers:
                begin(layer)
            self.stage.fill_(stage)


def uniform_count(layer: MaskedConv2d, keep_ratio: float) -> int:
    """Return the number of weights that a layer keeps when all layers keep the same fraction."""
    return keep_count(layer.mask.numel(), keep_ratio)
