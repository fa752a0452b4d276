"""Multi-prize tickets by biprop (Diffenderfer and Kailkhura 2021) under adversarial training: scores choose, kept weights become +-alpha.

Real weights are drawn and never trained. A layer computes with alpha sign(W) on what is kept, alpha the mean magnitude of the kept W, so
which weights are kept decides on the scale as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from model_zoo.families import Convolution, Family, pruned_binary
from model_zoo.layers.pruned_binary import PrunedBinaryConv2d


class BipropConv2d(PrunedBinaryConv2d):
    """The pruned convolution with kaiming-normal weights binarised to alpha sign(W); scores start kaiming-uniform."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, score_scale=1.0, weight_init="kaiming-normal")

    @property
    def alpha(self) -> torch.Tensor:
        """Mean magnitude of the weights that are kept."""
        assert self.magnitude is not None
        return (self.magnitude * self.mask).sum() / self.mask.sum()

    @property
    def weights(self) -> torch.Tensor:
        """What the layer may compute with: alpha sign(W), kept or not, float [out, in, k, k]."""
        return self.signs * self.alpha

    @property
    def slope(self) -> torch.Tensor:
        """W itself, not alpha sign(W): the official code's gradient knows the magnitudes."""
        assert self.magnitude is not None
        return self.signs * self.magnitude


def convolution(options: Mapping[str, Any]) -> Convolution:
    """No options of its own."""
    return BipropConv2d


def prepare(network: nn.Module, options: Mapping[str, Any]) -> None:
    """Scores within 1/sqrt(fan_in), and the same keep ratio everywhere."""
    pruned_binary.prepare(network, {**options, "allocation_power": 1.0, "score_fan": "all"})


FAMILY = Family(
    name="biprop",
    kind="sparse-binary",
    weight_bits=1,
    method="diffenderfer2021",
    taxonomy={"when": "before", "scored": "learned", "structured": False, "scope": "local"},
    is_masked=True,
    convolution=convolution,
    affine=True,
    defaults={"keep_ratio": None},
    prepare=prepare,
)
