"""Residual networks of Bayesian connectivity sampling's TensorFlow code: the zoo's networks with TensorFlow's SAME padding.

SAME pads an image of even size only on the right and below for a 3x3 convolution of stride 2, which therefore reads other pixels than one
with padding 1. The VGG-16 of that work has no strides and is `vgg16`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from model_zoo.architectures.resnet import BasicBlock, Bottleneck, build_resnet
from model_zoo.architectures.wide_resnet import WideResNet
from model_zoo.layers.activations import DEFAULT

Convolution = Callable[..., nn.Module]


class SamePadded(nn.Module):
    """Strided convolution after SAME padding: pads for ceil(size / stride) output positions, an odd pixel on the right and below."""

    def __init__(self, convolution: nn.Module, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.convolution = convolution
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map [N, in, H, W] to [N, out, ceil(H / stride), ceil(W / stride)]."""
        (top, bottom), (left, right) = (self._padding(size) for size in inputs.shape[-2:])
        return self.convolution(F.pad(inputs, (left, right, top, bottom)))

    def _padding(self, size: int) -> tuple[int, int]:
        total = max((-(-size // self.stride) - 1) * self.stride + self.kernel_size - size, 0)
        return total // 2, total - total // 2


def same_padded(convolution: Convolution) -> Convolution:
    """Return a layer factory whose strided convolutions have SAME padding, except 1x1 ones, which need none."""

    def make(inputs: int, outputs: int, kernel_size: int, stride: int = 1, padding: int = 0) -> nn.Module:
        if stride == 1 or kernel_size == 1:
            return convolution(inputs, outputs, kernel_size, stride=stride, padding=padding)
        return SamePadded(convolution(inputs, outputs, kernel_size, stride=stride, padding=0), kernel_size, stride)

    return make


def _resnet(
    block: type[BasicBlock] | type[Bottleneck],
    depths: Sequence[int],
    *,
    convolution: Convolution,
    affine: bool,
    classes: int,
    width: int = 64,
    activation: str = DEFAULT,
) -> nn.Module:
    return build_resnet(
        block,
        depths,
        "cifar",
        convolution=same_padded(convolution),
        affine=affine,
        classes=classes,
        width=width,
        last_batch_norm="none",
        head_bias=True,
        activation=activation,
    )


def _wide_resnet(
    *, convolution: Convolution, affine: bool, classes: int, depth: int, widths: Sequence[int], activation: str = DEFAULT
) -> nn.Module:
    return WideResNet(
        convolution=same_padded(convolution), affine=affine, classes=classes, depth=depth, widths=widths, activation=activation
    )


ARCHITECTURES: dict[str, Callable[..., Any]] = {
    "bcs-resnet18": partial(_resnet, BasicBlock, (2, 2, 2, 2)),
    "bcs-resnet34": partial(_resnet, BasicBlock, (3, 4, 6, 3)),
    "bcs-resnet50": partial(_resnet, Bottleneck, (3, 4, 6, 3)),
    "bcs-wide-resnet": _wide_resnet,
}
