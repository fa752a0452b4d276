"""What the scores that choose a mask begin as."""

from __future__ import annotations

import math

import torch


def scaled(weight: torch.Tensor) -> torch.Tensor:
    """HYDRA's scores of pretrained weights [out, in, k, k]: sqrt(6 / fan_in) w / max |w|, so that the ranking begins as that of |w|."""
    weight = weight.detach()
    return weight * (math.sqrt(6.0 / weight[0].numel()) / weight.abs().max())
