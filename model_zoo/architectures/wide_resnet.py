"""Wide residual networks (Zagoruyko and Komodakis 2016) as TRADES and later work build them: WRN-28-4, -28-10, -34-10.

If a block changes the width, its shortcut starts after the first batch norm and activation. TRADES' code has a second first block,
`sub_block1`, which is never used; it is not built here, and adapters leave its weights out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from model_zoo.architectures.preact_resnet import PreActBlock
from model_zoo.errors import UsageError
from model_zoo.layers.activations import DEFAULT, get_activation
from model_zoo.layers.bias import optional_bias

Convolution = Callable[..., nn.Module]


class WideResNet(nn.Module):
    """3x3 stem, `block1` to `block3`, batch norm, global average pooling and a linear classifier (a 1x1 convolution).

    Parameters
    ----------
    depth : int
        6 n + 4, where n is the number of residual blocks in each of `block1` to `block3`.
    widths : sequence of int
        Channels of the stem and of the three stages: 16, 16 k, 32 k, 64 k for WRN-depth-k.
    head_bias : bool
        Whether the classifier has a bias (that of robust scratch tickets has none).
    activation : str
        A name in `model_zoo.layers.activations.ACTIVATIONS`; any other raises an UnknownNameError.

    Raises
    ------
    UsageError
        If `depth` is not 6 n + 4 with n at least 1, or there are not four widths.
    """

    def __init__(
        self,
        *,
        convolution: Convolution,
        affine: bool,
        classes: int,
        depth: int,
        widths: Sequence[int],
        head_bias: bool = True,
        activation: str = DEFAULT,
    ) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6 or len(widths) != 4:
            raise UsageError(f"a wide ResNet needs a depth of 6 n + 4 and four widths, not {depth} and {list(widths)}")
        self.conv1 = convolution(3, widths[0], 3, stride=1, padding=1)
        channels = widths[0]
        for number, width in enumerate(widths[1:], start=1):
            blocks = []
            for position in range((depth - 4) // 6):
                stride = 2 if number > 1 and position == 0 else 1
                # Project only if the width changes, whatever the stride: the official rule.
                blocks.append(PreActBlock(convolution, channels, width, stride, affine, channels != width, activation))
                channels = width
            setattr(self, f"block{number}", nn.Sequential(*blocks))
        self.bn1 = nn.BatchNorm2d(channels, affine=affine)
        self.activation = get_activation(activation).make()
        self.fc = convolution(channels, classes, 1)
        self.fc_bias = optional_bias(classes, head_bias)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map normalised images float [N, 3, H, W] to logits float [N, classes]."""
        out = self.conv1(inputs)
        for number in (1, 2, 3):
            out = getattr(self, f"block{number}")(out)
        out = F.adaptive_avg_pool2d(self.activation(self.bn1(out)), 1)
        return self.fc_bias(self.fc(out)).flatten(1)


ARCHITECTURES: dict[str, Callable[..., Any]] = {"wide-resnet": WideResNet}
