"""Robust scratch tickets (Fu et al. 2021): edge-popup under an inner attack, signed constants that are never trained, one rate for all.

Beside the paper's method: weights are +-sqrt(2 / fan_in) and not +-1, scores start kaiming-uniform, p is 1, and there is no last batch norm
(that is the architecture's).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from model_zoo.families import Convolution, Family, pruned_binary


def _complete(options: Mapping[str, Any]) -> dict[str, Any]:
    return {**options, "allocation_power": 1.0, "score_scale": 1.0, "score_fan": "all", "weight_init": "signed-constant"}


def convolution(options: Mapping[str, Any]) -> Convolution:
    """As the paper's, with these initialisations."""
    return pruned_binary.convolution(_complete(options))


def prepare(network: nn.Module, options: Mapping[str, Any]) -> None:
    """As the paper's: scores within 1/sqrt(fan_in), which is kaiming-uniform with a = sqrt 5, and the same keep ratio everywhere."""
    pruned_binary.prepare(network, _complete(options))


FAMILY = Family(
    name="rst",
    kind="sparse-binary",
    weight_bits=1,
    method="fu2021",
    taxonomy={"when": "before", "scored": "learned", "structured": False, "scope": "local"},
    is_masked=True,
    convolution=convolution,
    affine=False,
    defaults={"keep_ratio": None},
    prepare=prepare,
)
