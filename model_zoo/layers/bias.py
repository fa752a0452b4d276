"""Bias as a separate layer, because the convolutions and linear layers of this package have none."""

from __future__ import annotations

import torch
from torch import nn


class Bias(nn.Module):
    """Learned bias, one number per channel; neither pruned nor binarised, and stored in float32 with the batch norms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Add the bias to `inputs` [N, channels, H, W]; the shape stays the same."""
        return inputs + self.bias.view(1, -1, 1, 1)


def optional_bias(channels: int, enabled: bool) -> nn.Module:
    """Return a `Bias` if `enabled`, else `nn.Identity`."""
    return Bias(channels) if enabled else nn.Identity()
