"""Post-activation residual networks of the paper: CIFAR and ImageNet-100 forms, any depth used in it, any width.

The classifier is a 1x1 convolution without bias, so that it can be pruned and binarised like every other layer, optionally followed by a
batch norm on the logits (the paper's last batch norm). Layer names are those of the official code. With `head_bias` and without the last
batch norm this is the CIFAR ResNet with a linear classifier that HYDRA, HARP and others use: a linear layer is a 1x1 convolution of pooled
features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from model_zoo.errors import UsageError
from model_zoo.layers.activations import DEFAULT, get_activation
from model_zoo.layers.bias import optional_bias

Convolution = Callable[..., nn.Module]
LAST_BATCH_NORMS = ("plain", "affine", "none")


def _projection(convolution: Convolution, inputs: int, outputs: int, stride: int, affine: bool) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(convolution(inputs, outputs, 1, stride=stride), nn.BatchNorm2d(outputs, affine=affine))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut."""

    expansion = 1

    def __init__(
        self, convolution: Convolution, inputs: int, width: int, stride: int, affine: bool, shortcut: str, activation: str
    ) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, width, 3, stride=stride, padding=1)
        self.bn1 = nn.BatchNorm2d(width, affine=affine)
        self.conv2 = convolution(width, width, 3, stride=1, padding=1)
        self.bn2 = nn.BatchNorm2d(width, affine=affine)
        self.shortcut_name = shortcut
        setattr(self, shortcut, _projection(convolution, inputs, width, stride, affine))
        self.activation = get_activation(activation).make()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map [N, inputs, H, W] to [N, width, H/stride, W/stride]."""
        out = self.activation(self.bn1(self.conv1(inputs)))
        out = self.bn2(self.conv2(out))
        return self.activation(out + getattr(self, self.shortcut_name)(inputs))


class Bottleneck(nn.Module):
    """1x1, 3x3 (strided) and 1x1 convolutions with a shortcut; outputs four times `width` channels."""

    expansion = 4

    def __init__(
        self, convolution: Convolution, inputs: int, width: int, stride: int, affine: bool, shortcut: str, activation: str
    ) -> None:
        super().__init__()
        outputs = self.expansion * width
        self.conv1 = convolution(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width, affine=affine)
        self.conv2 = convolution(width, width, 3, stride=stride, padding=1)
        self.bn2 = nn.BatchNorm2d(width, affine=affine)
        self.conv3 = convolution(width, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs, affine=affine)
        self.shortcut_name = shortcut
        setattr(self, shortcut, _projection(convolution, inputs, outputs, stride, affine))
        self.activation = get_activation(activation).make()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map [N, inputs, H, W] to [N, 4 width, H/stride, W/stride]."""
        out = self.activation(self.bn1(self.conv1(inputs)))
        out = self.activation(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.activation(out + getattr(self, self.shortcut_name)(inputs))


class ResNet(nn.Module):
    """Stem, stages `layer1`, `layer2`, ..., global average pooling, and a 1x1 convolution as classifier.

    Parameters
    ----------
    block : type
        `BasicBlock` or `Bottleneck`.
    depths, widths : sequence of int
        Number of blocks and base width of each stage; every stage but the first halves the resolution.
    classes : int
        Number of logits.
    convolution, affine
        As in `model_zoo.architectures.build_network`.
    last_batch_norm : {"plain", "affine", "none"}
        Batch norm on the logits: without or with learned scale and shift, or absent.
    stem : {"cifar", "imagenet"}
        3x3 convolution without pooling, or 7x7 convolution of stride 2 with 3x3 max pooling.
    stem_stride : int
        Stride of the CIFAR stem (1 in the paper; 2 makes all later layers four times cheaper).
    head_bias : bool
        Whether the classifier has a bias.
    activation : str
        A name in `model_zoo.layers.activations.ACTIVATIONS`; any other raises an UnknownNameError.
    channels : int
        Number of channels of the images.

    Raises
    ------
    UsageError
        If `last_batch_norm` has another value.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        widths: Sequence[int],
        classes: int,
        convolution: Convolution,
        affine: bool,
        last_batch_norm: str,
        stem: str = "cifar",
        stem_stride: int = 1,
        head_bias: bool = False,
        activation: str = DEFAULT,
        channels: int = 3,
    ) -> None:
        super().__init__()
        if last_batch_norm not in LAST_BATCH_NORMS:
            raise UsageError(f"last_batch_norm must be one of {', '.join(LAST_BATCH_NORMS)}, not {last_batch_norm!r}")
        shortcut = "shortcut" if stem == "cifar" else "downsample"
        if stem == "cifar":
            self.conv1 = convolution(channels, widths[0], 3, stride=stem_stride, padding=1)
        else:
            self.conv1 = convolution(channels, widths[0], 7, stride=2, padding=3)
        self.bn1 = nn.BatchNorm2d(widths[0], affine=affine)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1) if stem == "imagenet" else nn.Identity()
        self.activation = get_activation(activation).make()
        self.stages = len(depths)
        inputs = widths[0]
        for number, (depth, width) in enumerate(zip(depths, widths, strict=True), start=1):
            blocks = []
            for position in range(depth):
                stride = 2 if number > 1 and position == 0 else 1
                blocks.append(block(convolution, inputs, width, stride, affine, shortcut, activation))
                inputs = block.expansion * width
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.fc = convolution(inputs, classes, 1)
        self.fc_bias = optional_bias(classes, head_bias)
        self.last_bn: nn.Module = (
            nn.Identity() if last_batch_norm == "none" else nn.BatchNorm2d(classes, affine=last_batch_norm == "affine")
        )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map normalised images float [N, channels, H, W] to logits float [N, classes]."""
        out = self.pool(self.activation(self.bn1(self.conv1(inputs))))
        for number in range(1, self.stages + 1):
            out = getattr(self, f"layer{number}")(out)
        out = F.adaptive_avg_pool2d(out, 1)
        return self.last_bn(self.fc_bias(self.fc(out))).flatten(1)


def stage_widths(depths: Sequence[int], width: int, widths: Sequence[int] | None) -> list[int]:
    """Return `widths`, or `width` doubled from stage to stage if it is None; raises a UsageError unless there is one per stage."""
    sizes = list(widths) if widths is not None else [width * 2**stage for stage in range(len(depths))]
    if len(sizes) != len(depths):
        raise UsageError(f"{len(depths)} stages need {len(depths)} widths, not {len(sizes)}")
    return sizes


def build_resnet(
    block: type[BasicBlock] | type[Bottleneck],
    depths: Sequence[int],
    stem: str,
    *,
    convolution: Convolution,
    affine: bool,
    classes: int,
    width: int = 64,
    widths: Sequence[int] | None = None,
    last_batch_norm: str = "plain",
    stem_stride: int = 1,
    head_bias: bool = False,
    activation: str = DEFAULT,
    channels: int = 3,
) -> nn.Module:
    """Build a ResNet of base `width` (doubled from stage to stage) or of the given stage `widths`; UsageError if their number is wrong."""
    sizes = stage_widths(depths, width, widths)
    return ResNet(block, depths, sizes, classes, convolution, affine, last_batch_norm, stem, stem_stride, head_bias, activation, channels)


ARCHITECTURES: dict[str, Callable[..., Any]] = {
    # Three stages of one block, which two CPU cores can train in minutes.
    "cifar-resnet8": partial(build_resnet, BasicBlock, (1, 1, 1), "cifar"),
    "cifar-resnet18": partial(build_resnet, BasicBlock, (2, 2, 2, 2), "cifar"),
    "cifar-resnet34": partial(build_resnet, BasicBlock, (3, 4, 6, 3), "cifar"),
    "cifar-resnet50": partial(build_resnet, Bottleneck, (3, 4, 6, 3), "cifar"),
    "imagenet-resnet18": partial(build_resnet, BasicBlock, (2, 2, 2, 2), "imagenet"),
    "imagenet-resnet34": partial(build_resnet, BasicBlock, (3, 4, 6, 3), "imagenet"),
    "imagenet-resnet50": partial(build_resnet, Bottleneck, (3, 4, 6, 3), "imagenet"),
}
