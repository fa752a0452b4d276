"""BinaryConnect (Courbariaux et al. 2015) as in the paper's dense binary baseline: latent weights, sign, identity gradient."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from model_zoo.layers.signs import sign


class _SignStraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, latent: torch.Tensor) -> torch.Tensor:
        return sign(latent)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0]


def sign_straight_through(latent: torch.Tensor) -> torch.Tensor:
    """Return sign(latent), values -1 and +1; the gradient passes to `latent` unchanged."""
    return _SignStraightThrough.apply(latent)  # type: ignore[no-untyped-call]


class BinaryConnectConv2d(nn.Module):
    """Convolution without bias whose weights are sign(latent) in {-1, +1}, without a scale factor.

    The gradient passes to the latent weights unchanged. `latent` [out, in, k, k] is clamped to [-1, 1] by `refresh`, once before every
    optimiser step's forward passes.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        shape = (out_channels, in_channels, kernel_size, kernel_size)
        self.latent = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(shape), a=math.sqrt(5)))

    def refresh(self) -> None:
        """Clamp the latent weights to [-1, 1]."""
        with torch.no_grad():
            self.latent.clamp_(-1.0, 1.0)

    def effective_weight(self) -> torch.Tensor:
        """Return sign(latent), float [out, in, k, k] with values -1 and +1."""
        return sign_straight_through(self.latent)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Convolve `inputs` [N, in, H, W] with the signs of the latent weights."""
        return F.conv2d(inputs, self.effective_weight(), None, self.stride, self.padding)
