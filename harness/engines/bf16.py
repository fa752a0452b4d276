"""Engine bf16: the folded network in bfloat16, and in float32 wherever bfloat16 could decide wrongly what an image is taken for.

A query whose two largest logits are nearer to each other than rounding moves them is answered with the logits of float32, so that an attack
is not told of an example that is none; its gradient stays that of bfloat16. Fast where the processor multiplies bfloat16 (AVX512_BF16, AMX,
GPUs), slow elsewhere.
"""

from __future__ import annotations

import torch
from torch import nn

from harness.engines.equivalence import Bounds
from harness.engines.folded import FoldedModel

# Two logits nearer than this share of the row's spread are too close. Of the registry's CIFAR-10 models on images at the boundary the
# difference of the two largest moved by less, all of them, most by a fifth of it.
BAND = 0.03
# What the equivalence check allows. Logits off by half of the band move a difference of two by the band.
BOUNDS = Bounds(logits=BAND / 2, median=0.03, tenth=0.1)


class Bf16Model(nn.Module):
    """Takes what the classifier takes and gives what it gives: logits float32 [N, classes], those too close exact up to float32 rounding.

    Attributes
    ----------
    rounded, exact : FoldedModel
        The network in bfloat16 and in float32.

    Raises
    ------
    UnsuitedError
        For a model that the engine cannot express.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.rounded, self.exact = FoldedModel(model, torch.bfloat16), FoldedModel(model)
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of images float32 [N, 3, H, W]."""
        logits: torch.Tensor = self.rounded(images)
        with torch.no_grad():
            largest = logits.topk(2, dim=1).values
            close = (largest[:, 0] - largest[:, 1] <= BAND * (largest[:, 0] - logits.amin(1))).nonzero().flatten()
            if not len(close):
                return logits
            correction = torch.zeros_like(logits)
            correction[close] = self.exact(images[close]) - logits[close]
        return logits + correction
