"""Batch statistics, and how they fold with a batch norm's parameters into one scale and one shift per channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn


@dataclass(frozen=True)
class Norm:
    """Parameters of the batch norm behind a layer: scale and shift float32 [channels], None if it has none; `eps` None for no norm."""

    eps: float | None
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None

    @classmethod
    def of(cls, module: nn.Module) -> Norm:
        """The parameters of an `nn.BatchNorm2d` or `nn.Identity`."""
        if not isinstance(module, nn.BatchNorm2d):
            return cls(None)
        weight, bias = (None if tensor is None else tensor.detach().numpy() for tensor in (module.weight, module.bias))
        return cls(module.eps, weight, bias)


@dataclass(frozen=True)
class Statistics:
    """Of a layer's convolution over a batch: mean and biased variance, float64 [channels], over so many numbers."""

    mean: np.ndarray
    variance: np.ndarray
    count: int

    def fold(self, norm: Norm) -> tuple[np.ndarray, np.ndarray]:
        """Scale and shift float32 [channels] that normalise by these statistics."""
        if norm.eps is None:
            return np.ones(len(self.mean), np.float32), np.zeros(len(self.mean), np.float32)
        # A channel that was empty gives nothing until its variance is known: one that has just been filled would be multiplied by 316.
        scale = np.where(self.variance > 0.0, 1.0 if norm.weight is None else norm.weight, 0.0) / np.sqrt(self.variance + norm.eps)
        shift = (0.0 if norm.bias is None else norm.bias) - self.mean * scale
        return scale.astype(np.float32), shift.astype(np.float32)
