"""Batches of augmented images, made from uint8 arrays on the training device."""

from __future__ import annotations

from collections.abc import Iterator

import torch


def augment(images: torch.Tensor, generator: torch.Generator, padding: int = 4) -> torch.Tensor:
    """Random crop of the zero-padded image and random horizontal flip, per image.

    Parameters
    ----------
    images : torch.Tensor
        uint8 or float [N, C, H, W].
    generator : torch.Generator
        On the CPU; source of the offsets and flips.
    """
    number, _, height, width = images.shape
    offsets = torch.randint(0, 2 * padding + 1, (2, number), generator=generator).to(images.device)
    flips = (torch.rand(number, generator=generator) < 0.5).to(images.device)
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    rows = offsets[0][:, None] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(number, width)
    columns = offsets[1][:, None] + torch.where(flips[:, None], columns.flip(1), columns)
    which = torch.arange(number, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def batches(
    images: torch.Tensor, labels: torch.Tensor, size: int, generator: torch.Generator
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """One epoch of shuffled, augmented batches of exactly `size` (the rest of an epoch is left out, another rest each time).

    Yields float32 [size, 3, H, W] in [0, 1], channels-last in memory, and int64 [size].
    """
    order = torch.randperm(len(images), generator=generator).to(images.device)
    for start in range(0, len(order) - size + 1, size):
        chosen = order[start : start + size]
        batch = augment(images[chosen], generator).float().div_(255.0)
        yield batch.contiguous(memory_format=torch.channels_last), labels[chosen]
