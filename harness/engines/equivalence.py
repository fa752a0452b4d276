"""Whether an engine is the model: logits and input gradients on real images, before anything is attacked with it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

IMAGES = 32


@dataclass(frozen=True)
class Bounds:
    """How far an engine may be off.

    A logit may differ by the share `logits` of the largest logit: sums are in another order, through dozens of layers. An image's gradients
    are compared by the median over its pixels of the difference, as a share of the largest gradient; the median image has to stay below
    `median`, nine images in ten below `tenth`. A unit at a ReLU's boundary may fall to the other side, which changes the gradient of an
    image by a few per cent, as float32 against float64 shows too: no bound on single pixels or images.
    """

    logits: float
    median: float
    tenth: float


FLOAT32 = Bounds(logits=1e-4, median=1e-4, tenth=1e-2)


@dataclass(frozen=True)
class Comparison:
    """The largest difference of logits as a share of the largest logit, the gradients' at the median and the worst-but-a-tenth image."""

    logits: float
    median: float
    tenth: float
    bounds: Bounds

    @property
    def refusal(self) -> str | None:
        """Why the engine is not the model, None where it is. A difference that is not a number refuses."""
        for what, value, bound in (
            ("logits", self.logits, self.bounds.logits),
            ("gradients of the median image", self.median, self.bounds.median),
            ("gradients of one image in ten", self.tenth, self.bounds.tenth),
        ):
            if not value <= bound:
                return f"{what} differ by {value:.1e}, {bound:.0e} is allowed"
        return None

    def __str__(self) -> str:
        return f"logits differ by {self.logits:.1e}, gradients by {self.median:.1e} (median image) and {self.tenth:.1e} (one in ten)"


def compare(model: nn.Module, engine: nn.Module, images: torch.Tensor, bounds: Bounds = FLOAT32) -> Comparison:
    """Run both on the first `IMAGES` of float32 images [N, 3, H, W], one thread's rounding against another's.

    What is differentiated is the logits' sum with fixed weights that differ from image to image, so that no logit is left out.
    """
    images = images[:IMAGES]
    ours, theirs = _run(engine, images), _run(model, images)
    logits = float((ours[0] - theirs[0]).abs().max() / theirs[0].abs().max().clamp_min(1e-30))
    largest = theirs[1].abs().amax(1, keepdim=True).clamp_min(1e-30)
    each = ((ours[1] - theirs[1]).abs() / largest).median(1).values
    return Comparison(logits, float(each.median()), float(each.quantile(0.9)), bounds)


def _run(model: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.enable_grad():
        point = images.clone().requires_grad_(True)
        logits = model(point)
        weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits)
        (gradient,) = torch.autograd.grad((logits * weights).sum(), point)
    return logits.detach(), gradient.flatten(1)
