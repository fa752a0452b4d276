"""Batch statistics, and their folding with a batch norm's parameters into one scale and one shift per channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn


@dataclass(frozen=True)
class Norm:
    """Parameters of the batch norm after a layer: scale and shift, float32 [channels] or None; `eps` is None if there is no norm."""

    eps: float | None
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None

    @classmethod
    def of(cls, module: nn.Module) -> Norm:
        """Return the parameters of an `nn.BatchNorm2d`; any other module (`nn.Identity`) counts as no norm."""
        if not isinstance(module, nn.BatchNorm2d):
            return cls(None)
        weight, bias = (None if tensor is None else tensor.detach().numpy() for tensor in (module.weight, module.bias))
        return cls(module.eps, weight, bias)


@dataclass(frozen=True)
class Statistics:
    """Mean and biased variance, float64 [channels], of a layer's convolution over a batch, from `count` numbers per channel."""

    mean: np.ndarray
    variance: np.ndarray
    count: int

    def fold(self, norm: Norm) -> tuple[np.ndarray, np.ndarray]:
        """Return the scale and shift, float32 [channels], that normalise by these statistics; the scale is 0 if the variance is 0."""
        if norm.eps is None:
            return np.ones(len(self.mean), np.float32), np.zeros(len(self.mean), np.float32)
        # An empty channel (variance 0) gets scale 0 at first: 1 / sqrt(eps) would multiply a channel that has just been filled by 316.
        scale = np.where(self.variance > 0.0, 1.0 if norm.weight is None else norm.weight, 0.0) / np.sqrt(self.variance + norm.eps)
        shift = (0.0 if norm.bias is None else norm.bias) - self.mean * scale
        return scale.astype(np.float32), shift.astype(np.float32)


def combine_statistics(cells: np.ndarray, count: int) -> Statistics:
    """Return a batch's statistics from its cells', float64 [cells, channels, 2] as written by `batch_norm.moments` from `count` numbers."""
    means, squares = cells[:, :, 0], cells[:, :, 1]
    mean = means.mean(0)
    variance = squares.sum(0) / (count * len(cells)) + np.square(means - mean).mean(0)
    return Statistics(mean, np.maximum(variance, 0.0), count * len(cells))
