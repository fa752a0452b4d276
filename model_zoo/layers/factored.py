"""A convolution whose weight matrix is a product of two factors plus a remainder, W = U V + C (ATMC, Gui et al. 2019).

The square factor is stored minus the identity, as in the official code, so that an all-zero square factor and remainder make a dense
network. All three matrices are sparse in the end, so that fewer numbers are stored than W has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Factors:
    """Stored numbers of one layer, float32: `left` [out, rank], `right` [rank, in k k], `rest` [out, in k k].

    rank is the smaller of out and in k k. The identity is not yet added to the square factor (`right` if both are square).
    """

    left: np.ndarray
    right: np.ndarray
    rest: np.ndarray

    def tensors(self) -> list[np.ndarray]:
        """Return `left`, `right` and `rest`, in this order."""
        return [self.left, self.right, self.rest]

    def product(self) -> np.ndarray:
        """Return W, float32 [out, in k k], with the same bits on every machine.

        Outer products are added one after the other in float64, so that no library decides the order of additions.
        """
        left, right = self.left.astype(np.float64), self.right.astype(np.float64)
        identity = np.eye(right.shape[0])
        left, right = (left, right + identity) if square_right(right.shape) else (left + identity, right)
        total = self.rest.astype(np.float64)
        for column, row in zip(left.T, right, strict=True):
            used = np.flatnonzero(column)
            total[used] += column[used, None] * row
        # Adding 0.0 turns -0.0 into 0.0, whatever the signs of zeros were.
        return total.astype(np.float32) + np.float32(0.0)


def square_right(shape: Sequence[int]) -> bool:
    """Return whether the right factor is the square one, by its shape [rank, in k k]."""
    return shape[0] == shape[1]


def factor_shapes(shape: Sequence[int]) -> list[tuple[int, int]]:
    """Return the shapes of the left factor, the right factor and the remainder of a weight [out, in, k, k]."""
    outputs, inputs = shape[0], math.prod(shape[1:])
    rank = min(outputs, inputs)
    return [(outputs, rank), (rank, inputs), (outputs, inputs)]


class FactoredConv2d(nn.Module):
    """Convolution without bias whose weight is U V + C; `left`, `right` and `rest` are parameters, as in `Factors`."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.shape = (out_channels, in_channels, kernel_size, kernel_size)
        left, right, rest = (torch.zeros(shape) for shape in factor_shapes(self.shape))
        # Start as a dense network: the factor that is not square gets PyTorch's default initialisation of a convolution.
        initial = nn.init.kaiming_uniform_(torch.empty(self.shape), a=math.sqrt(5)).flatten(1)
        (left if square_right(right.shape) else right).copy_(initial)
        self.left, self.right, self.rest = nn.Parameter(left), nn.Parameter(right), nn.Parameter(rest)
        self.register_buffer("identity", torch.eye(right.shape[0]), persistent=False)

    identity: torch.Tensor

    def factors(self) -> list[nn.Parameter]:
        """Return the parameters `left`, `right` and `rest`, in this order."""
        return [self.left, self.right, self.rest]

    def stored(self) -> Factors:
        """Return copies of the three parameters as `Factors`."""
        return Factors(*(part.detach().cpu().numpy().copy() for part in self.factors()))

    def effective_weight(self) -> torch.Tensor:
        """Return U V + C, float [out, in, k, k]; equal to the frozen layer's weight up to rounding, see `Factors.product`."""
        on_right = square_right(self.right.shape)
        left, right = (self.left, self.right + self.identity) if on_right else (self.left + self.identity, self.right)
        return (left @ right + self.rest).view(self.shape)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Convolve `inputs` [N, in, H, W] with U V + C."""
        return F.conv2d(inputs, self.effective_weight(), None, self.stride, self.padding)
