"""Multi-prize tickets by biprop (Diffenderfer and Kailkhura 2021) under adversarial training: scores choose weights, which become +-alpha.

Real weights are drawn and never trained. A layer computes with alpha sign(W) where weights are kept; alpha is the mean magnitude of the
kept W, so the choice of kept weights also sets the scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from model_zoo.families import Convolution, Family, pruned_binary
from model_zoo.layers.pruned_binary import PrunedBinaryConv2d


class BipropConv2d(PrunedBinaryConv2d):
    """Pruned convolution with kaiming-normal weights binarised to alpha sign(W); scores start kaiming-uniform."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, score_scale=1.0, weight_init="kaiming-normal")

    @property
    def alpha(self) -> torch.Tensor:
        """Mean magnitude of the kept weights."""
        assert self.magnitude is not None
        return (self.magnitude * self.mask).sum() / self.mask.sum()

    @property
    def weights(self) -> torch.Tensor:
        """The binarised weights alpha sign(W), kept or not, float [out, in, k, k]."""
        return self.signs * self.alpha

    @property
    def slope(self) -> torch.Tensor:
        """The real weights W, not alpha sign(W), because the gradient of the official code uses the magnitudes."""
        assert self.magnitude is not None
        return self.signs * self.magnitude


def convolution(options: Mapping[str, Any]) -> Convolution:
    """Return the layer class, which does not depend on the options."""
    return BipropConv2d


def prepare(network: nn.Module, options: Mapping[str, Any]) -> None:
    """Scale the scores by 1/sqrt(fan_in), and keep the same fraction in every layer."""
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
    defaults={"keep_ratio": float},
    prepare=prepare,
)
