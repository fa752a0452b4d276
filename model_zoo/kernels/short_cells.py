"""Packing, pooling and their gradients for cells of 32 images in float16: everything outside the convolutions.

A cell is a uint16 array [channels + 1, rows + 2, columns + 2, 32] whose bits are float16 numbers. Masks are uint32, one bit per image.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from model_zoo.kernels.convolve import SHORT


def numbers(cell: np.ndarray) -> np.ndarray:
    """Return a float16 view that shares memory with the uint16 `cell`."""
    return cell.view(np.float16)


def pack(images: np.ndarray, value: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> None:
    """Write normalised images, float32 [n, C, H, W] with n at most 32, into a cell; unused lanes are set to zero."""
    normalised = (images - mean[:, None, None]) / deviation[:, None, None]
    inside = numbers(value)[: images.shape[1], 1:-1, 1:-1]
    inside[..., : len(images)] = normalised.transpose(1, 2, 3, 0)
    inside[..., len(images) :] = 0.0


def unpack(value: np.ndarray, gradient: np.ndarray, deviation: np.ndarray) -> None:
    """Write the gradient with respect to the images, float32 [n, C, H, W], from that with respect to their normalised form in a cell.

    Infinities and NaN, from numbers too large for float16, become zero.
    """
    inside = numbers(value)[: gradient.shape[1], 1:-1, 1:-1, : len(gradient)].astype(np.float32)
    gradient[:] = np.nan_to_num(inside.transpose(3, 0, 1, 2), nan=0.0, posinf=0.0, neginf=0.0) / deviation[:, None, None]


def average(value: np.ndarray, pooled: np.ndarray, channels: int) -> None:
    """Write the mean over the positions of a cell into `pooled`, [C + 1, 3, 3, 32]."""
    numbers(pooled)[:channels, 1, 1] = numbers(value)[:channels, 1:-1, 1:-1].mean((1, 2), dtype=np.float32)


def spread(pooled: np.ndarray, value: np.ndarray, mask: np.ndarray, channels: int) -> None:
    """Write the gradient of `average` into `value` where the flat mask [C * H * W] is set, and zero elsewhere."""
    positions = (value.shape[1] - 2) * (value.shape[2] - 2)
    share = numbers(pooled)[:channels, 1, 1] * np.float16(1.0 / positions)
    _spread(share.view(np.uint16), value, mask)


@njit(cache=True, nogil=True)
def _spread(share, value, mask):  # type: ignore[no-untyped-def]
    """Copy the bits of `share` [channels, 32] to every position that the mask lets through, and zero to the others."""
    rows, columns = value.shape[1] - 2, value.shape[2] - 2
    for channel in range(share.shape[0]):
        channel_bits = share[channel]
        for row in range(rows):
            for column in range(columns):
                bits, written = mask[(channel * rows + row) * columns + column], value[channel, row + 1, column + 1]
                for lane in range(SHORT):
                    written[lane] = channel_bits[lane] * np.uint16((bits >> np.uint32(lane)) & np.uint32(1))
