"""Networks built to deceive: the class is that of an undefended network, what logits and gradients say is something else."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class BorrowedLogits(nn.Module):
    """The class of one network, and the logits of another added to it, so that attacks are led where the other one is weak.

    Parameters
    ----------
    deciding, shown : nn.Module
        Whose class it is, and whose logits are seen.
    sharpness : float, optional
        The class enters as a softmax of logits times `sharpness`, which has a gradient, however small; None: as one-hot, which has none.
    height : float
        What being the class is worth, more than logits of `shown` differ.
    """

    def __init__(self, deciding: nn.Module, shown: nn.Module, sharpness: float | None, height: float) -> None:
        super().__init__()
        self.deciding, self.shown, self.sharpness, self.height = deciding, shown, sharpness, height

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N, classes]."""
        logits = self.deciding(images)
        if self.sharpness is None:
            decision = F.one_hot(logits.argmax(1), logits.shape[1]).to(logits)
        else:
            decision = (self.sharpness * logits).softmax(1)
        seen: torch.Tensor = self.shown(images)
        return self.height * decision + seen


class FallingMargin(nn.Module):
    """The class of a network with a margin that is large where the true one is small: whoever follows it moves away from the boundary.

    `scale` is the true margin, in logits, at which the one shown has fallen to 1/e.
    """

    def __init__(self, deciding: nn.Module, scale: float) -> None:
        super().__init__()
        self.deciding, self.scale = deciding, scale

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N, classes], those of all other classes 0."""
        logits = self.deciding(images)
        first, second = logits.topk(2, dim=1).values.unbind(1)
        shown = 5.0 * torch.exp((second - first) / self.scale)
        return F.one_hot(logits.argmax(1), logits.shape[1]).to(logits) * shown[:, None]
