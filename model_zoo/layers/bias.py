"""The bias of a linear layer or convolution, beside it: layers here have none of their own."""

from __future__ import annotations

import torch
from torch import nn


class Bias(nn.Module):
    """Adds a learned number to every channel. Not pruned, not binarised; stored in float32 with the batch norms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[N, channels, H, W] to the same shape."""
        return inputs + self.bias.view(1, -1, 1, 1)


def optional_bias(channels: int, wanted: bool) -> nn.Module:
    """A bias where one is wanted, else nothing."""
    return Bias(channels) if wanted else nn.Identity()
