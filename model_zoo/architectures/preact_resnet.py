"""Pre-activation residual networks for CIFAR as used by Flying Bird and Robust Bird (Rice et al. 2020's variant).

If a block changes the shape, its shortcut starts after the first batch norm and activation, not at the block's input. A batch norm follows
the last block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from model_zoo.architectures.resnet import stage_widths
from model_zoo.layers.activations import DEFAULT, get_activation
from model_zoo.layers.bias import optional_bias

Convolution = Callable[..., nn.Module]


class PreActBlock(nn.Module):
    """Twice batch norm, activation and 3x3 convolution, with a shortcut: the input, or a 1x1 convolution if `projected`."""

    def __init__(
        self, convolution: Convolution, inputs: int, width: int, stride: int, affine: bool, projected: bool, activation: str
    ) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs, affine=affine)
        self.conv1 = convolution(inputs, width, 3, stride=stride, padding=1)
        self.bn2 = nn.BatchNorm2d(width, affine=affine)
        self.conv2 = convolution(width, width, 3, stride=1, padding=1)
        self.shortcut = convolution(inputs, width, 1, stride=stride) if projected else None
        self.activation = get_activation(activation).make()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map [N, inputs, H, W] to [N, width, H/stride, W/stride]."""
        out = self.activation(self.bn1(inputs))
        shortcut = inputs if self.shortcut is None else self.shortcut(out)
        out = self.conv2(self.activation(self.bn2(self.conv1(out))))
        return out + shortcut


class PreActResNet(nn.Module):
    """3x3 stem, stages `layer1`, `layer2`, ..., batch norm, global average pooling and a linear classifier (a 1x1 convolution)."""

    def __init__(
        self,
        depths: Sequence[int],
        widths: Sequence[int],
        classes: int,
        convolution: Convolution,
        affine: bool,
        head_bias: bool,
        activation: str,
    ) -> None:
        super().__init__()
        self.conv1 = convolution(3, widths[0], 3, stride=1, padding=1)
        self.stages = len(depths)
        channels = widths[0]
        for number, (depth, width) in enumerate(zip(depths, widths, strict=True), start=1):
            blocks = []
            for position in range(depth):
                stride = 2 if number > 1 and position == 0 else 1
                blocks.append(PreActBlock(convolution, channels, width, stride, affine, stride != 1 or channels != width, activation))
                channels = width
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.bn = nn.BatchNorm2d(channels, affine=affine)
        self.activation = get_activation(activation).make()
        self.fc = convolution(channels, classes, 1)
        self.fc_bias = optional_bias(classes, head_bias)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map normalised images float [N, 3, H, W] to logits float [N, classes]."""
        out = self.conv1(inputs)
        for number in range(1, self.stages + 1):
            out = getattr(self, f"layer{number}")(out)
        out = F.adaptive_avg_pool2d(self.activation(self.bn(out)), 1)
        return self.fc_bias(self.fc(out)).flatten(1)


def build_preact_resnet(
    depths: Sequence[int],
    *,
    convolution: Convolution,
    affine: bool,
    classes: int,
    width: int = 64,
    widths: Sequence[int] | None = None,
    head_bias: bool = True,
    activation: str = DEFAULT,
) -> nn.Module:
    """Build a network of base `width` (doubled from stage to stage) or of the given stage `widths`; UsageError if their number is wrong."""
    return PreActResNet(depths, stage_widths(depths, width, widths), classes, convolution, affine, head_bias, activation)


ARCHITECTURES: dict[str, Callable[..., Any]] = {
    "preact-resnet18": partial(build_preact_resnet, (2, 2, 2, 2)),
    "preact-resnet34": partial(build_preact_resnet, (3, 4, 6, 3)),
}
