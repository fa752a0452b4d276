"""Conversion of images to cells of sixteen, and small residual networks for the tests of the training kernels."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import nn

from model_zoo.architectures.resnet import BasicBlock, Bottleneck, ResNet
from model_zoo.classifier import Classifier

BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}


def to_cells(values: torch.Tensor | np.ndarray) -> np.ndarray:
    """Return values [N, C, H, W] as float32 cells [N / 16, C, H + 2, W + 2, 16] with a border of zeros."""
    values = np.asarray(values, np.float32)
    images, channels, rows, columns = values.shape
    cells = np.zeros((images // 16, channels, rows + 2, columns + 2, 16), np.float32)
    cells[:, :, 1:-1, 1:-1] = values.reshape(-1, 16, channels, rows, columns).transpose(0, 2, 3, 4, 1)
    return cells


def from_cells(cells: np.ndarray) -> np.ndarray:
    """Return the values [N, C, H, W] of cells, without the border."""
    inside = cells[:, :, 1:-1, 1:-1].transpose(0, 4, 1, 2, 3)
    return inside.reshape(-1, *inside.shape[2:])


def difference(actual: torch.Tensor | np.ndarray, expected: torch.Tensor | np.ndarray, floor: float = 0.0) -> float:
    """Return the norm of the difference relative to the norm of `expected` or `floor`, whichever is larger; 0 for equal arrays."""
    actual, expected = (np.asarray(values, np.float64) for values in (actual, expected))
    assert actual.shape == expected.shape
    distance = float(np.linalg.norm(actual - expected))
    return distance / max(float(np.linalg.norm(expected)), floor, 1e-30) if distance else 0.0


def network(
    block: str = "basic",
    affine: bool = False,
    last: str = "plain",
    widths: tuple[int, ...] = (7, 9),
    stem_stride: int = 1,
    keep: float = 0.3,
    empty: int = 0,
) -> Classifier:
    """Return a network in training mode with a share `keep` of nonzero weights.

    The first `empty` output channels of every layer have no weights. Affine batch norms have scales and shifts of both signs.
    """
    generator = torch.Generator().manual_seed(5)
    convolution = partial(nn.Conv2d, bias=False)
    inner = ResNet(BLOCKS[block], (1,) * len(widths), widths, 10, convolution, affine, last, stem_stride=stem_stride)  # type: ignore[arg-type]
    model = Classifier(inner, "cifar10").train()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                values = torch.randn(module.weight.shape, generator=generator)
                values *= torch.rand(values.shape, generator=generator) < keep
                values[:empty] = 0.0
                module.weight.copy_(values)
            elif isinstance(module, nn.BatchNorm2d) and module.affine:
                values = torch.rand(module.weight.shape, generator=generator) + 0.5
                module.weight.copy_(values * torch.randn(values.shape, generator=generator).sign())
                module.bias.copy_(torch.randn(module.bias.shape, generator=generator))
    return model
