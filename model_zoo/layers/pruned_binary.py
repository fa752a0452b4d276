"""The pruned binary convolution of Liu, Zhao, Süsstrunk, Salzmann (NeurIPS 2022): frozen random signs, learned scores, top-k mask.

The mask is that of edge-popup (Ramanujan et al. 2020): the entries of largest |score| within the layer are kept, with an identity
straight-through gradient to |score|.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from model_zoo.layers.initialisation import constant_magnitude, draw_weights
from model_zoo.layers.signs import sign


def keep_count(weights: int, keep_ratio: float) -> int:
    """Return how many of `weights` weights are kept at `keep_ratio` in (0, 1]: n - floor((1 - k) n), the official code's rounding."""
    return weights - int((1.0 - keep_ratio) * weights)


def top_mask(scores: torch.Tensor, kept: int) -> torch.Tensor:
    """Return the mask of the `kept` entries of largest |score|: float {0, 1} of the shape of `scores`.

    The count is exact; ties are broken arbitrarily.
    """
    flat = scores.detach().abs().flatten()
    mask = torch.zeros_like(flat)
    mask[flat.topk(kept, sorted=False).indices] = 1.0
    return mask.view(scores.shape)


class _StraightThrough(torch.autograd.Function):
    """Forward: weights * mask. Backward: d/dS = d/dW_eff * slope * sign(S), for kept and dropped entries alike."""

    @staticmethod
    def forward(ctx: Any, scores: torch.Tensor, weights: torch.Tensor, mask: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(scores, slope)
        return weights * mask

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        scores, slope = ctx.saved_tensors
        # torch.sign, not `layers.signs.sign`: the gradient of |S| at S = 0 is 0.
        return gradients[0] * slope * torch.sign(scores), None, None, None


class PrunedBinaryConv2d(nn.Module):
    """Convolution without bias whose weights are frozen, of which only the `kept` with the largest |score| are used.

    `scores` is the only parameter; `signs` in {-1, +1} and `mask` in {0, 1} are buffers, all of shape [out, in, k, k]. `magnitude` is None
    for the paper's binary weights; for the ablation's other initialisations it is |weight|, [1] or [out, in, k, k]. The mask is computed by
    `refresh`, once per optimiser step, not in the forward pass: all passes between two refreshes (every attack step and the training pass)
    use the same subnetwork. The official code sorts all scores in every forward pass and gets the same masks, since scores change only in
    the optimiser's step.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding : int
        As in `nn.Conv2d`.
    score_scale : float
        The paper's a: scores start uniform in (-a, a), 0.01 in the published settings.
    weight_init : str
        A kind of `model_zoo.layers.initialisation.draw_weights`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        score_scale: float = 0.01,
        weight_init: str = "binary",
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.weight_init = weight_init
        shape = (out_channels, in_channels, kernel_size, kernel_size)
        drawn = draw_weights(shape, weight_init)
        self.register_buffer("signs", sign(drawn))
        self.scores = nn.Parameter(torch.empty(shape).uniform_(-score_scale, score_scale))
        self.register_buffer("mask", torch.ones(shape))
        constant = None if weight_init == "binary" else torch.ones(1)
        self.register_buffer("magnitude", drawn.abs() if weight_init in ("uniform", "kaiming-normal") else constant)
        self.kept = math.prod(shape)
        self._effective: torch.Tensor | None = None

    signs: torch.Tensor
    mask: torch.Tensor
    magnitude: torch.Tensor | None

    def set_kept(self, kept: int) -> None:
        """Set how many weights are kept and refresh the mask; ValueError unless 1 <= kept <= number of weights."""
        if not 1 <= kept <= self.scores.numel():
            raise ValueError(f"cannot keep {kept} of {self.scores.numel()} weights")
        self.kept = kept
        if self.magnitude is not None and self.magnitude.numel() == 1:
            self.magnitude.fill_(constant_magnitude(self.scores.shape, self.weight_init, kept / self.scores.numel()))
        self.refresh()

    def refresh(self) -> None:
        """Recompute the mask from the scores; call it after every change of the scores."""
        # In place, because a wrapper that shares buffers between devices keeps a reference to the tensor.
        self.mask.copy_(top_mask(self.scores, self.kept))
        self._effective = self.weights * self.mask

    def keep(self, places: torch.Tensor) -> None:
        """Keep the weights at flat positions `places`, int64 [kept]; replaces `refresh`. The mask must be contiguous."""
        self.mask.zero_()
        self.mask.view(-1)[places] = 1.0
        self._effective = None

    @property
    def weights(self) -> torch.Tensor:
        """The frozen weights, kept or not, float [out, in, k, k]."""
        return self.signs if self.magnitude is None else self.signs * self.magnitude

    @property
    def slope(self) -> torch.Tensor:
        """Factor of the effective weight's gradient on its way to |score|; by default the frozen weights."""
        return self.weights

    def effective_weight(self) -> torch.Tensor:
        """Return the weight used in the forward pass, float [out, in, k, k], zero if not kept.

        Its gradient passes to the scores if they require one.
        """
        if self.scores.requires_grad and torch.is_grad_enabled():
            return _StraightThrough.apply(self.scores, self.weights, self.mask, self.slope)  # type: ignore[no-untyped-call]
        if self._effective is None or self._effective.device != self.signs.device:
            self._effective = self.weights * self.mask
        return self._effective

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Convolve `inputs` [N, in, H, W] with the kept weights."""
        return F.conv2d(inputs, self.effective_weight(), None, self.stride, self.padding)
