"""The paper's models: untrained random signs, pruned layer by layer with learned scores, and batch norms without parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from model_zoo.errors import UsageError
from model_zoo.families import Convolution, Family
from model_zoo.layers.pruned_binary import PrunedBinaryConv2d
from model_zoo.pruning.allocation import layer_keep_counts
from model_zoo.training.controller import Controller

SCORE_FANS = ("none", "all", "except-last", "only-last")


def convolution(options: Mapping[str, Any]) -> Convolution:
    """Return a layer factory with the initialisations that the options name."""
    return partial(PrunedBinaryConv2d, score_scale=options["score_scale"], weight_init=options["weight_init"])


def prepare(network: nn.Module, options: Mapping[str, Any]) -> None:
    """Scale the initial scores by 1/sqrt(fan_in) in the layers that `score_fan` names, and set the number of kept weights per layer.

    The published settings scale no layer; the original edge-popup scales all. The last layer is the classifier.

    Raises
    ------
    UsageError
        If `score_fan` is unknown.
    """
    score_fan = options["score_fan"]
    if score_fan not in SCORE_FANS:
        raise UsageError(f"score_fan must be one of {', '.join(SCORE_FANS)}, not {score_fan!r}")
    layers = _layers(network)
    for layer in layers:
        if score_fan == "all" or score_fan == ("only-last" if layer is layers[-1] else "except-last"):
            with torch.no_grad():
                layer.scores.div_(math.sqrt(layer.scores[0].numel()))
    allocate(network, options)


def allocate(network: nn.Module, options: Mapping[str, Any], keep_ratio: float | None = None) -> None:
    """Set the number of kept weights of every layer by the adaptive rule, at `keep_ratio` or, if None, at that of the options."""
    layers = _layers(network)
    sizes = [layer.scores.numel() for layer in layers]
    counts = layer_keep_counts(sizes, options["keep_ratio"] if keep_ratio is None else keep_ratio, options["allocation_power"])
    for layer, count in zip(layers, counts, strict=True):
        layer.set_kept(count)


class GradualPruning(Controller):
    """Controller that, with K `stages`, keeps k^(i/K) of the weights in the i-th of K equal parts of training; does nothing if K = 1."""

    def __init__(self, network: nn.Module, options: Mapping[str, Any]) -> None:
        self.network, self.options = network, dict(options)

    def at_epoch(self, epoch: int, epochs: int) -> None:
        """Set the kept numbers for the epoch's stage; done in every epoch, because a resumed run begins with those of the last stage."""
        stages = self.options["stages"]
        if not 1 <= stages <= epochs:
            raise UsageError(f"stages must be from 1 to the number of epochs, not {stages}")
        if stages > 1:
            stage = epoch * stages // epochs
            allocate(self.network, self.options, self.options["keep_ratio"] ** ((stage + 1) / stages))


def _layers(network: nn.Module) -> list[PrunedBinaryConv2d]:
    return [layer for layer in network.modules() if isinstance(layer, PrunedBinaryConv2d)]


FAMILY = Family(
    name="pruned-binary",
    kind="pruned-binary",
    method="liu2022",
    weight_bits=1,
    taxonomy={"when": "before", "scored": "learned", "structured": False, "scope": "local"},
    is_masked=True,
    convolution=convolution,
    affine=False,
    defaults={
        "keep_ratio": float,
        "allocation_power": float,
        "score_scale": 0.01,
        "score_fan": "none",
        "weight_init": "binary",
        "stages": 1,
    },
    prepare=prepare,
    controller=GradualPruning,
)
