"""Initial values of the scores that choose a mask."""

from __future__ import annotations

import math

import torch


def scaled(weight: torch.Tensor) -> torch.Tensor:
    """Return HYDRA's initial scores of weights [out, in, k, k], sqrt(6 / fan_in) w / max |w|; their magnitudes rank as |w| does."""
    weight = weight.detach()
    return weight * (math.sqrt(6.0 / weight[0].numel()) / weight.abs().max())
