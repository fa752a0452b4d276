"""Pruning in stages: train all weights, choose which to keep, train those that are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from model_zoo.errors import UsageError
from model_zoo.layers.masked import MaskedConv2d, masked_layers
from model_zoo.layers.pruned_binary import keep_count

PRETRAIN, SEARCH, FINETUNE = 0, 1, 2


def stage_of(options: Mapping[str, Any], epoch: int, epochs: int) -> int:
    """Which stage an epoch, counted from 0, is in; the last takes what the first two leave.

    Raises
    ------
    UsageError
        If nothing is left for it.
    """
    first, second = options["pretrain_epochs"], options.get("search_epochs", 0)
    if first < 0 or second < 0 or first + second >= epochs:
        raise UsageError(f"{first} epochs before pruning and {second} of search leave none of {epochs} for the kept weights")
    return PRETRAIN if epoch < first else SEARCH if epoch < first + second else FINETUNE


def enter(network: nn.Module, stage: int, begin: Callable[[MaskedConv2d], None]) -> None:
    """Call `begin` with every masked layer that has not entered `stage` yet, and note that it has."""
    for layer in masked_layers(network):
        if int(layer.stage) < stage:
            begin(layer)
            layer.stage.fill_(stage)


def uniform_count(layer: MaskedConv2d, keep_ratio: float) -> int:
    """How many weights a layer keeps where every layer keeps the same fraction."""
    return keep_count(layer.mask.numel(), keep_ratio)
