"""The paper's models: random signs that are never trained, pruned layer by layer by learned scores; batch norms without parameters."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn

from model_zoo.families import Family
from model_zoo.layers.pruned_binary import PrunedBinaryConv2d
from model_zoo.pruning.allocation import layer_keep_counts


def allocate(network: nn.Module, options: Mapping[str, Any]) -> None:
    """Give every layer its number of kept weights by the adaptive rule."""
    layers = [layer for layer in network.modules() if isinstance(layer, PrunedBinaryConv2d)]
    counts = layer_keep_counts([layer.scores.numel() for layer in layers], options["keep_ratio"], options["allocation_power"])
    for layer, count in zip(layers, counts, strict=True):
        layer.set_kept(count)


FAMILY = Family(
    name="pruned-binary",
    convolution=lambda options: partial(PrunedBinaryConv2d, score_scale=options["score_scale"]),
    affine=False,
    defaults={"keep_ratio": None, "allocation_power": None, "score_scale": 0.01},
    prepare=allocate,
)
