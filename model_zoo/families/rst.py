"""Robust scratch tickets (Fu et al. 2021): edge-popup under an inner attack, untrained signed constants, one keep ratio for all layers.

Differences from the paper's method: weights are +-sqrt(2 / fan_in) and not +-1, scores start kaiming-uniform, p is 1, and there is no last
batch norm (a property of the architecture).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from model_zoo.families import Convolution, Family, pruned_binary


def _with_fixed_options(options: Mapping[str, Any]) -> dict[str, Any]:
    return {**options, "allocation_power": 1.0, "score_scale": 1.0, "score_fan": "all", "weight_init": "signed-constant"}


def convolution(options: Mapping[str, Any]) -> Convolution:
    """Return the layer factory of `pruned_binary` with RST's initialisations."""
    return pruned_binary.convolution(_with_fixed_options(options))


def prepare(network: nn.Module, options: Mapping[str, Any]) -> None:
    """Scale the scores by 1/sqrt(fan_in), which is kaiming-uniform with a = sqrt 5, and keep the same fraction in every layer."""
    pruned_binary.prepare(network, _with_fixed_options(options))


FAMILY = Family(
    name="rst",
    kind="sparse-binary",
    weight_bits=1,
    method="fu2021",
    taxonomy={"when": "before", "scored": "learned", "structured": False, "scope": "local"},
    is_masked=True,
    convolution=convolution,
    affine=False,
    defaults={"keep_ratio": float},
    prepare=prepare,
)
