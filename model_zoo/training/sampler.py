"""Batches of augmented images, made from uint8 arrays on the training device; where it stands can be stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from model_zoo.training.sharing import Draws


@dataclass(frozen=True)
class Crop:
    """Random crop of the padded image and random horizontal flip.

    Attributes
    ----------
    padding : int
        Pixels on every side.
    value : float
        Of the padding, in [0, 1].
    offsets : int
        Number of different offsets per axis; 2 padding + 1 reach every crop.
    """

    padding: int = 4
    value: float = 0.0
    offsets: int = 9


@dataclass(frozen=True)
class Batch:
    """Augmented images with where they were cut from.

    Attributes
    ----------
    images : torch.Tensor
        float32 [N, 3, H, W] in [0, 1], channels-last in memory.
    labels, index : torch.Tensor
        int64 [N]; `index` is the position among the training images.
    rows, columns : torch.Tensor
        int64 [N, H] and [N, W]: the cut in the padded image; columns run backwards where the image is flipped.
    """

    images: torch.Tensor
    labels: torch.Tensor
    index: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor


def cuts(images: torch.Tensor, crop: Crop, draws: Draws) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and columns of a random crop of each of `images` [N, C, H, W]."""
    number, _, height, width = images.shape
    offsets = draws.integers(crop.offsets, 2, number).to(images.device)
    flips = draws.coins(number).to(images.device)
    rows = offsets[0][:, None] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(number, width)
    return rows, offsets[1][:, None] + torch.where(flips[:, None], columns.flip(1), columns)


def cut(padded: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """The crops [N, C, H, W] of `padded` [N, C, H + 2p, W + 2p]."""
    which = torch.arange(len(padded), device=padded.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def on_device(images: np.ndarray, labels: np.ndarray, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images uint8 [N, H, W, 3] and labels [N] as uint8 [N, 3, H, W] and int64 [N] on `device`."""
    # PyTorch warns of arrays that cannot be written to.
    writable = np.require(images, requirements=["C", "W"])
    pixels = torch.from_numpy(writable).permute(0, 3, 1, 2).contiguous().to(device)
    return pixels, torch.from_numpy(labels.astype(np.int64)).to(device)


class Sampler:
    """Shuffled, augmented batches of exactly `size` (the rest of an epoch is left out, another rest each time).

    Parameters
    ----------
    images : torch.Tensor
        uint8 [N, 3, H, W].
    labels : torch.Tensor
        int64 [N].
    size : int
        Images in a batch, over all processes.
    """

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, size: int, crop: Crop, draws: Draws) -> None:
        self.images, self.labels, self.size, self.crop, self.draws = images, labels, size, crop, draws
        self.order: torch.Tensor | None = None
        self.position = 0

    @property
    def batches(self) -> int:
        """Batches in an epoch."""
        return len(self.images) // self.size

    def epoch(self) -> Iterator[Batch]:
        """The batches of a new epoch, or the rest of one that was restored."""
        if self.order is None:
            self.order, self.position = torch.randperm(len(self.images), generator=self.draws.generator), 0
        while self.position < self.batches:
            start = self.position * self.size
            self.position += 1
            yield self._batch(self.draws.share.rows(self.order[start : start + self.size]).to(self.images.device))
        self.order = None

    def _batch(self, chosen: torch.Tensor) -> Batch:
        images = self.images[chosen]
        rows, columns = cuts(images, self.crop, self.draws)
        padded = torch.nn.functional.pad(images, (self.crop.padding,) * 4, value=round(255 * self.crop.value))
        made = cut(padded, rows, columns).float().div_(255.0).contiguous(memory_format=torch.channels_last)
        return Batch(made, self.labels[chosen], chosen, rows, columns)
