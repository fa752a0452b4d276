"""Networks built to deceive: they predict the class of an undefended network, but their logits and gradients show something else."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class BorrowedLogits(nn.Module):
    """The predicted class of one network plus the logits of another, so that attacks are led to where the other one is weak.

    Parameters
    ----------
    deciding, shown : nn.Module
        The network that decides the class, and the one whose logits are added.
    sharpness : float, optional
        The class enters as a softmax of logits times `sharpness`, which has a gradient, however small; if None, as a one-hot vector, which
        has none.
    height : float
        Logit added to the predicted class; larger than the differences between logits of `shown`.
    """

    def __init__(self, deciding: nn.Module, shown: nn.Module, sharpness: float | None, height: float) -> None:
        super().__init__()
        self.deciding, self.shown, self.sharpness, self.height = deciding, shown, sharpness, height

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits, [N, classes], of images [N, 3, H, W]."""
        logits = self.deciding(images)
        if self.sharpness is None:
            decision = F.one_hot(logits.argmax(1), logits.shape[1]).to(logits)
        else:
            decision = (self.sharpness * logits).softmax(1)
        shown_logits: torch.Tensor = self.shown(images)
        return self.height * decision + shown_logits


class FallingMargin(nn.Module):
    """The predicted class of a network with a margin that is large if the true one is small, so that attacks move away from the boundary.

    `scale` is the true margin, in logits, at which the shown one has fallen to 1/e of its maximum, 5.
    """

    def __init__(self, deciding: nn.Module, scale: float) -> None:
        super().__init__()
        self.deciding, self.scale = deciding, scale

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits, [N, classes], of images [N, 3, H, W]; they are 0 for all other classes."""
        logits = self.deciding(images)
        first, second = logits.topk(2, dim=1).values.unbind(1)
        margin = 5.0 * torch.exp((second - first) / self.scale)
        return F.one_hot(logits.argmax(1), logits.shape[1]).to(logits) * margin[:, None]
