"""Equivalence check: compare an engine's logits and input gradients with the model's on real images, before any attack uses it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

IMAGES = 32


@dataclass(frozen=True)
class Bounds:
    """Largest allowed differences between an engine and the model.

    A logit may differ by `logits` times the largest logit, because sums are added in another order, through dozens of layers. The
    difference of an image's gradients is the median over its pixels, as a share of the image's largest gradient; it must be at most
    `median` for the median image and `tenth` for nine images in ten. A unit at a ReLU's boundary may fall to the other side, which changes
    an image's gradient by a few per cent, as between float32 and float64, so no bound applies to single pixels or images.
    """

    logits: float
    median: float
    tenth: float


FLOAT32 = Bounds(logits=1e-4, median=1e-4, tenth=1e-2)


@dataclass(frozen=True)
class Comparison:
    """Measured differences of logits, as a share of the largest logit, and of gradients, for the median image and the 90 % quantile."""

    logits: float
    median: float
    tenth: float
    bounds: Bounds

    @property
    def refusal(self) -> str | None:
        """Why the engine is refused, or None if all differences are within the bounds; a NaN is refused."""
        for quantity, value, bound in (
            ("logits", self.logits, self.bounds.logits),
            ("gradients of the median image", self.median, self.bounds.median),
            ("gradients of one image in ten", self.tenth, self.bounds.tenth),
        ):
            if not value <= bound:
                return f"{quantity} differ by {value:.1e}, {bound:.0e} is allowed"
        return None

    def __str__(self) -> str:
        return f"logits differ by {self.logits:.1e}, gradients by {self.median:.1e} (median image) and {self.tenth:.1e} (one in ten)"


def compare(model: nn.Module, engine: nn.Module, images: torch.Tensor, bounds: Bounds = FLOAT32) -> Comparison:
    """Compare the engine with the model on the first `IMAGES` of float32 images [N, 3, H, W].

    The gradient is that of the logits' sum with fixed weights that differ from image to image and class to class, so that no logit is left
    out.
    """
    images = images[:IMAGES]
    engine_run, model_run = _logits_and_gradient(engine, images), _logits_and_gradient(model, images)
    logits = float((engine_run[0] - model_run[0]).abs().max() / model_run[0].abs().max().clamp_min(1e-30))
    largest = model_run[1].abs().amax(1, keepdim=True).clamp_min(1e-30)
    differences = ((engine_run[1] - model_run[1]).abs() / largest).median(1).values
    return Comparison(logits, float(differences.median()), float(differences.quantile(0.9)), bounds)


def _logits_and_gradient(model: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.enable_grad():
        point = images.clone().requires_grad_(True)
        logits = model(point)
        weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits)
        (gradient,) = torch.autograd.grad((logits * weights).sum(), point)
    return logits.detach(), gradient.flatten(1)
