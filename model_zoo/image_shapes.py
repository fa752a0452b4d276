"""Shapes of images on which a network runs, found by trying."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from model_zoo.errors import UserError
from model_zoo.user_code import user_code

# Image sizes in pixels, numbers of channels, and batch sizes that may be fixed in a network.
SIZES = (32, 224, 28, 64, 96, 48, 128, 160, 16, 40, 56, 112, 192, 256, 299)
CHANNELS = (3, 1)
BATCHES = (1, 3, 4, 8, 16, 32, 64, 100, 128, 256)


def runs_on(network: nn.Module, batch: int, channels: int, height: int, width: int) -> bool:
    """Return whether a network runs on a batch of images [batch, channels, height, width]."""
    try:
        with torch.no_grad(), user_code("model failed"):
            network(torch.full((batch, channels, height, width), 0.5))
    except UserError:
        return False
    return True


def size_for(network: nn.Module, batch: int, channels: int, sizes: Sequence[int] = SIZES) -> int | None:
    """Return the first size on which a network runs, for a batch of images [batch, channels, size, size]; None if it runs on none."""
    return next((size for size in sizes if runs_on(network, batch, channels, size, size)), None)


def shape_text(channels: int, height: int, width: int) -> str:
    """Return the shape of images as text for readers: "3 channels, 32 x 32 pixels" (width x height)."""
    return f"{channels} channel{'s' * (channels > 1)}, {width} x {height} pixels"


def shape_for(network: nn.Module) -> str | None:
    """Return the first shape of images on which a network runs, as text; None if it runs on none."""
    for channels in CHANNELS:
        size = size_for(network, 2, channels)
        if size is not None:
            return shape_text(channels, size, size)
    return None
