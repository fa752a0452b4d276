"""Batches of augmented images from uint8 arrays on the training device; the position within an epoch can be stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from model_zoo.training.sharing import Draws


@dataclass(frozen=True)
class Crop:
    """Random crop of the padded image, and random horizontal flip if mirror images have the same class.

    Attributes
    ----------
    padding : int
        Pixels of padding on every side.
    value : float
        Value of the padding, in [0, 1].
    offsets : int
        Number of different offsets per axis; 2 padding + 1 reach every crop.
    flip : bool
        Whether images are flipped at random.
    """

    padding: int = 4
    value: float = 0.0
    offsets: int = 9
    flip: bool = True


@dataclass(frozen=True)
class Batch:
    """Augmented images and the positions of their crops.

    Attributes
    ----------
    images : torch.Tensor
        float32 [N, C, H, W] in [0, 1], channels-last in memory.
    labels, index : torch.Tensor
        int64 [N]; `index` is the position among the training images.
    rows, columns : torch.Tensor
        int64 [N, H] and [N, W]: indices of the crop in the padded image; columns are reversed if the image is flipped.
    """

    images: torch.Tensor
    labels: torch.Tensor
    index: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor


def cuts(images: torch.Tensor, crop: Crop, draws: Draws) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows and columns, int64 [N, H] and [N, W], of a random crop of each of `images` [N, C, H, W]."""
    number, _, height, width = images.shape
    offsets = draws.integers(crop.offsets, 2, number).to(images.device)
    # Drawn in any case, so that all other random numbers are the same.
    flips = draws.coins(number).to(images.device) & crop.flip
    rows = offsets[0][:, None] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(number, width)
    return rows, offsets[1][:, None] + torch.where(flips[:, None], columns.flip(1), columns)


def cut(padded: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return the crops [N, C, H, W] of `padded` [N, C, H + 2p, W + 2p] at the given rows and columns."""
    index = torch.arange(len(padded), device=padded.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def on_device(images: np.ndarray, labels: np.ndarray, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images uint8 [N, H, W, C] and labels [N] as uint8 [N, C, H, W] and int64 [N] on `device`."""
    # PyTorch warns about arrays that are not writable.
    writable = np.require(images, requirements=["C", "W"])
    pixels = torch.from_numpy(writable).permute(0, 3, 1, 2).contiguous().to(device)
    return pixels, torch.from_numpy(labels.astype(np.int64)).to(device)


class Sampler:
    """Shuffled, augmented batches of exactly `size` images.

    The remainder of an epoch is left out; it differs between epochs, because each is shuffled anew.

    Parameters
    ----------
    images : torch.Tensor
        uint8 [N, C, H, W].
    labels : torch.Tensor
        int64 [N].
    size : int
        Images per batch, over all processes.
    """

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, size: int, crop: Crop, draws: Draws) -> None:
        self.images, self.labels, self.size, self.crop, self.draws = images, labels, size, crop, draws
        self.order: torch.Tensor | None = None
        self.position = 0

    @property
    def batches(self) -> int:
        """Number of batches per epoch."""
        return len(self.images) // self.size

    def epoch(self) -> Iterator[Batch]:
        """Yield the batches of a new epoch, or the remaining ones of a restored epoch."""
        if self.order is None:
            self.order, self.position = torch.randperm(len(self.images), generator=self.draws.generator), 0
        while self.position < self.batches:
            start = self.position * self.size
            self.position += 1
            yield self._batch(self.draws.share.rows(self.order[start : start + self.size]).to(self.images.device))
        self.order = None

    def _batch(self, index: torch.Tensor) -> Batch:
        images = self.images[index]
        rows, columns = cuts(images, self.crop, self.draws)
        padded = torch.nn.functional.pad(images, (self.crop.padding,) * 4, value=round(255 * self.crop.value))
        augmented = cut(padded, rows, columns).float().div_(255.0).contiguous(memory_format=torch.channels_last)
        return Batch(augmented, self.labels[index], index, rows, columns)
