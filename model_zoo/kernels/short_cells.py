"""What happens to cells of 32 images in float16 outside the convolutions: packing, pooling and their gradients.

Cells are uint16 arrays whose bits are float16 numbers, [channels + 1, rows + 2, columns + 2, 32]; masks are uint32, a bit for each image.
"""

from __future__ import annotations

import numpy as np

from model_zoo.kernels.convolve import SHORT


def numbers(cell: np.ndarray) -> np.ndarray:
    """The same memory as float16."""
    return cell.view(np.float16)


def pack(images: np.ndarray, value: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> None:
    """Images float32 [n, C, H, W], n at most 32, normalised, into a cell; what is left over holds zeros."""
    normalised = (images - mean[:, None, None]) / deviation[:, None, None]
    inside = numbers(value)[: images.shape[1], 1:-1, 1:-1]
    inside[..., : len(images)] = normalised.transpose(1, 2, 3, 0)
    inside[..., len(images) :] = 0.0


def unpack(value: np.ndarray, gradient: np.ndarray, deviation: np.ndarray) -> None:
    """The gradient by the images, float32 [n, C, H, W], from that by their normalised form; zero where a number was too large."""
    inside = numbers(value)[: gradient.shape[1], 1:-1, 1:-1, : len(gradient)].astype(np.float32)
    gradient[:] = np.nan_to_num(inside.transpose(3, 0, 1, 2), nan=0.0, posinf=0.0, neginf=0.0) / deviation[:, None, None]


def average(value: np.ndarray, pooled: np.ndarray, channels: int) -> None:
    """Mean over the positions of a cell into pooled [C + 1, 3, 3, 32]."""
    numbers(pooled)[:channels, 1, 1] = numbers(value)[:channels, 1:-1, 1:-1].mean((1, 2), dtype=np.float32)


def spread(pooled: np.ndarray, value: np.ndarray, mask: np.ndarray, channels: int) -> None:
    """The gradient of `average`, where the mask [C, H, W] lets it through."""
    inside = numbers(value)[:channels, 1:-1, 1:-1]
    share = np.float16(1.0 / (inside.shape[1] * inside.shape[2]))
    through = np.unpackbits(mask.view(np.uint8), bitorder="little").reshape(*inside.shape[:3], SHORT)
    np.multiply(numbers(pooled)[:channels, 1:2, 1:2] * share, through, out=inside)
