"""VGG-16 for 32x32 images, in the variants used by pruned robust models.

All variants share thirteen 3x3 convolutions with batch norms and the first four max-poolings, and differ after them: HYDRA, HARP and
Bayesian connectivity sampling keep 2x2 positions and three linear layers (2048-256-256-classes); Flying Bird, TwinRep and RADMM pool once
more and have one linear layer; MAD averages over the positions. Linear layers are 1x1 convolutions of the pooled features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from model_zoo.errors import UsageError
from model_zoo.layers.activations import DEFAULT, get_activation
from model_zoo.layers.bias import optional_bias

Convolution = Callable[..., nn.Module]
# Convolutions before each of the first four poolings, and after the fourth.
STAGES = (2, 2, 3, 3, 3)
WIDTHS = tuple(64 * multiple for multiple, count in zip((1, 2, 4, 8, 8), STAGES, strict=True) for _ in range(count))
POOLS = ("keep-2x2", "max", "average")


class VGG16(nn.Module):
    """VGG-16 with layers `conv1`, `bn1` to `conv13`, `bn13`, pooling, and linear `fc1`, `fc2`, ...; `<layer>_bias` is a layer's bias.

    Parameters
    ----------
    widths : sequence of int
        Channels of the thirteen convolutions.
    hidden : sequence of int
        Widths of the linear layers before the classifier: (256, 256) or none.
    pool : {"keep-2x2", "max", "average"}
        What follows the last convolution's 2x2 positions: nothing, maximum or average pooling.
    conv_bias, head_bias : bool
        Whether convolutions and linear layers have biases.
    activation : str
        A name in `model_zoo.layers.activations.ACTIVATIONS`; any other raises an UnknownNameError.

    Raises
    ------
    UsageError
        If `pool` has another value, or `widths` another length than thirteen.
    """

    def __init__(
        self,
        *,
        convolution: Convolution,
        affine: bool,
        classes: int,
        widths: Sequence[int] = WIDTHS,
        hidden: Sequence[int] = (256, 256),
        pool: str = "keep-2x2",
        conv_bias: bool = False,
        head_bias: bool = True,
        activation: str = DEFAULT,
    ) -> None:
        super().__init__()
        if pool not in POOLS:
            raise UsageError(f"pool must be one of {', '.join(POOLS)}, not {pool!r}")
        if len(widths) != sum(STAGES):
            raise UsageError(f"VGG-16 needs {sum(STAGES)} widths, not {len(widths)}")
        self.pool, self.activation = pool, get_activation(activation).make()
        channels = 3
        for number, width in enumerate(widths, start=1):
            setattr(self, f"conv{number}", convolution(channels, width, 3, stride=1, padding=1))
            setattr(self, f"conv{number}_bias", optional_bias(width, conv_bias))
            setattr(self, f"bn{number}", nn.BatchNorm2d(width, affine=affine))
            channels = width
        channels *= 4 if pool == "keep-2x2" else 1
        self.linear = len(hidden) + 1
        for number, width in enumerate([*hidden, classes], start=1):
            setattr(self, f"fc{number}", convolution(channels, width, 1))
            setattr(self, f"fc{number}_bias", optional_bias(width, head_bias))
            channels = width

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map normalised images float [N, 3, 32, 32] to logits float [N, classes]."""
        out, number = inputs, 0
        for stage, count in enumerate(STAGES, start=1):
            for _ in range(count):
                number += 1
                out = getattr(self, f"conv{number}_bias")(getattr(self, f"conv{number}")(out))
                out = self.activation(getattr(self, f"bn{number}")(out))
            if stage < len(STAGES):
                out = F.max_pool2d(out, 2)
        out = F.adaptive_max_pool2d(out, 1) if self.pool == "max" else F.adaptive_avg_pool2d(out, 2 if self.pool == "keep-2x2" else 1)
        out = out.flatten(1)[:, :, None, None]
        for layer in range(1, self.linear + 1):
            out = getattr(self, f"fc{layer}_bias")(getattr(self, f"fc{layer}")(out))
            out = self.activation(out) if layer < self.linear else out
        return out.flatten(1)


ARCHITECTURES: dict[str, Callable[..., Any]] = {"vgg16": VGG16}
