"""Engine bf16: the folded network in bfloat16, with the logits of float32 if bfloat16 could predict the wrong class.

If an image's two largest logits are closer to each other than rounding moves them, its logits are those of float32, so that an attack does
not accept a false adversarial example; its gradient stays that of bfloat16. Fast if the hardware multiplies bfloat16 (AVX512_BF16, AMX,
GPUs), slow if not.
"""

from __future__ import annotations

import torch
from torch import nn

from harness.engines.equivalence import Bounds
from harness.engines.folded import FoldedModel

# Two logits are too close if they differ by at most this share of the row's spread. For all CIFAR-10 models of the registry, on images at
# the decision boundary, rounding moved the difference of the two largest logits by less, for most by a fifth of it.
BAND = 0.03
# Bounds of the equivalence check. Two logits that are each off by half of the band move their difference by the band.
BOUNDS = Bounds(logits=BAND / 2, median=0.03, tenth=0.1)


class Bf16Model(nn.Module):
    """Replacement of a classifier, with logits float32 [N, classes]; if the two largest are close, they are exact up to float32 rounding.

    Attributes
    ----------
    rounded, exact : FoldedModel
        The network in bfloat16 and in float32.

    Raises
    ------
    UnsuitedError
        If the engine cannot express the model.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.rounded, self.exact = FoldedModel(model, torch.bfloat16), FoldedModel(model)
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits, float32 [N, classes], of images float32 [N, 3, H, W]."""
        logits: torch.Tensor = self.rounded(images)
        with torch.no_grad():
            largest = logits.topk(2, dim=1).values
            close_rows = (largest[:, 0] - largest[:, 1] <= BAND * (largest[:, 0] - logits.amin(1))).nonzero().flatten()
            if not len(close_rows):
                return logits
            correction = torch.zeros_like(logits)
            correction[close_rows] = self.exact(images[close_rows]) - logits[close_rows]
        return logits + correction
