"""Wrap a model for torchattacks, and predict classes."""

from __future__ import annotations

import torch
from torch import nn


class Facade(nn.Module):
    """Wrapper of `model` that has at least one parameter, so that torchattacks finds the device.

    torchattacks takes its device from the first parameter and writes to standard output if there is none; a frozen model may have
    buffers only. The first parameter of this wrapper is an empty tensor on `device`.

    Parameters
    ----------
    model : nn.Module
        Model from images [N, C, H, W] to logits [N, K].
    device : torch.device
        Device of the images.
    positive : bool
        Shift each image's logits so that the smallest is 1. Adding a constant to all logits of an image changes no prediction and no
        margin, but torchattacks' CW masks classes by multiplying their logits by zero, which is wrong for negative logits.
    """

    def __init__(self, model: nn.Module, device: torch.device, positive: bool = False) -> None:
        super().__init__()
        self.device_anchor = nn.Parameter(torch.empty(0, device=device), requires_grad=False)
        self.model = model
        self.positive = positive
        self.training = model.training

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of `images`, [N, K]."""
        logits: torch.Tensor = self.model(images)
        return logits - logits.detach().amin(1, keepdim=True) + 1 if self.positive else logits


def predict(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return the predicted classes, int64 [N]."""
    with torch.no_grad():
        labels: torch.Tensor = model(images).argmax(1)
    return labels
