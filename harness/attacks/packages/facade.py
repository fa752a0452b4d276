"""The model as torchattacks wants to see it."""

from __future__ import annotations

import torch
from torch import nn


class Facade(nn.Module):
    """Behaves as `model`, with a device to be found by.

    torchattacks takes its device from the first parameter and writes to standard output when there is none, and a frozen model may
    consist of buffers only: here an empty parameter comes first.

    Parameters
    ----------
    model : nn.Module
        Images to logits [N, K].
    device : torch.device
        Where the images are.
    positive : bool
        Shift each image's logits so that the smallest is 1. Adding a constant to all logits of an image changes no prediction and no
        margin, but torchattacks' CW masks classes by multiplying with zero and is wrong for logits below it.
    """

    def __init__(self, model: nn.Module, device: torch.device, positive: bool = False) -> None:
        super().__init__()
        self.device_anchor = nn.Parameter(torch.empty(0, device=device), requires_grad=False)
        self.model = model
        self.positive = positive
        self.training = model.training

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of `images`."""
        logits: torch.Tensor = self.model(images)
        return logits - logits.detach().amin(1, keepdim=True) + 1 if self.positive else logits


def predict(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Predicted classes, int64 [N]."""
    with torch.no_grad():
        labels: torch.Tensor = model(images).argmax(1)
    return labels
