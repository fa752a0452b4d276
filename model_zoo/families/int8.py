"""Dense networks with 8-bit weights, trained adversarially with the rounding applied (Jacob et al. 2018)."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from model_zoo.families import Family

LEVELS = 127.0


class Int8Conv2d(nn.Module):
    """Convolution without bias and with weights q s: q in -127..127, and one scale s = max |w| / 127 per output channel.

    The gradient passes through the rounding unchanged.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        shape = (out_channels, in_channels, kernel_size, kernel_size)
        self.weight = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(shape), a=math.sqrt(5)))

    def effective_weight(self) -> torch.Tensor:
        """Return the rounded weights, float [out, in, k, k]."""
        scale = (self.weight.detach().abs().amax((1, 2, 3), keepdim=True) / LEVELS).clamp_min(torch.finfo(torch.float32).tiny)
        rounded = (self.weight.detach() / scale).round().clamp(-LEVELS, LEVELS) * scale
        return rounded + (self.weight - self.weight.detach())

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Convolve `inputs` [N, in, H, W] with the rounded weights."""
        return F.conv2d(inputs, self.effective_weight(), None, self.stride, self.padding)


FAMILY = Family(name="int8", kind="quantised", method="jacob2018", weight_bits=8, convolution=lambda options: Int8Conv2d, affine=True)
