"""A convolution with a mask over its weights, which the sparse methods train in two kinds of phases.

In phase "weights" the kept weights are trained, and the mask is fixed or changed by a rule. In phase "scores" the weights are fixed and the
scores that determine the mask are trained, with edge-popup's straight-through gradient.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from model_zoo.errors import UsageError
from model_zoo.layers.binary_connect import sign_straight_through
from model_zoo.layers.pruned_binary import top_mask

WEIGHTS = ("real", "binary")


class _ScoredMask(torch.autograd.Function):
    """Forward: weight * mask. Backward: |score| gets the gradient of the mask, as if it were the mask; `rate` gets the sum of it."""

    @staticmethod
    def forward(ctx: Any, scores: torch.Tensor, rate: torch.Tensor | None, weight: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(scores, weight)
        ctx.learned = rate is not None
        return weight * mask

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        scores, weight = ctx.saved_tensors
        mask_gradient = gradients[0] * weight
        return mask_gradient * torch.sign(scores), mask_gradient.sum() if ctx.learned else None, None, None


class MaskedConv2d(nn.Module):
    """Convolution without bias; `weight` and `scores` are parameters, `mask` in {0, 1} a buffer, all of shape [out, in, k, k].

    `rate` is the keep ratio as a tensor with a gradient, in methods that learn it, and None in others.
    """

    mask: torch.Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        shape = (out_channels, in_channels, kernel_size, kernel_size)
        # PyTorch's default initialisation of a convolution.
        self.weight = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(shape), a=math.sqrt(5)))
        self.scores = nn.Parameter(torch.zeros(shape), requires_grad=False)
        self.register_buffer("mask", torch.ones(shape))
        self.rate: torch.Tensor | None = None

    def train_weights(self) -> None:
        """Start phase "weights": only the weights require gradients."""
        self.weight.requires_grad_(True)
        self.scores.requires_grad_(False)

    def train_scores(self) -> None:
        """Start phase "scores": only the scores require gradients."""
        self.weight.requires_grad_(False)
        self.scores.requires_grad_(True)

    def keep_top(self, ranking: torch.Tensor, kept: int) -> None:
        """Set the mask to the `kept` weights of largest |ranking|, a tensor [out, in, k, k]."""
        self.mask.copy_(top_mask(ranking, kept))

    def refresh(self) -> None:
        """Hook called after every optimiser step; does nothing by default."""

    def values(self) -> torch.Tensor:
        """Return the values that the mask is applied to, [out, in, k, k]; the weights by default."""
        return self.weight

    def effective_weight(self) -> torch.Tensor:
        """Return the weights used in the forward pass, [out, in, k, k], zero if not kept."""
        if self.scores.requires_grad and torch.is_grad_enabled():
            return _ScoredMask.apply(self.scores, self.rate, self.values(), self.mask)  # type: ignore[no-untyped-call]
        return self.values() * self.mask

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Convolve `inputs` [N, in, H, W] with the kept weights."""
        return F.conv2d(inputs, self.effective_weight(), None, self.stride, self.padding)


class BinaryWeights(MaskedConv2d):
    """Masked convolution that computes with the signs of its weights, which are latent and clamped to [-1, 1] as in BinaryConnect.

    The magnitudes of the latent weights can still rank them.
    """

    def refresh(self) -> None:
        """Clamp the latent weights to [-1, 1], then run the hook of the parent class."""
        with torch.no_grad():
            self.weight.clamp_(-1.0, 1.0)
        super().refresh()

    def values(self) -> torch.Tensor:
        """Return sign(weight); the gradient passes to the weight unchanged."""
        return sign_straight_through(self.weight)


def with_weights(layer: type[MaskedConv2d], kind: str) -> type[MaskedConv2d]:
    """Return `layer` for "real" weights, or a subclass of it with "binary" ones; UsageError for another kind."""
    if kind not in WEIGHTS:
        raise UsageError(f"weights must be one of {', '.join(WEIGHTS)}, not {kind!r}")
    return layer if kind == "real" else type(f"Binary{layer.__name__}", (BinaryWeights, layer), {})


def masked_layers(network: nn.Module) -> list[MaskedConv2d]:
    """Return the masked convolutions of a network, in module order."""
    return [layer for layer in network.modules() if isinstance(layer, MaskedConv2d)]
