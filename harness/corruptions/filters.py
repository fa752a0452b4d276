"""Filters and random textures that several corruptions use."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import ndimage


def smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """Return values [H, W, C] smoothed by a Gaussian along height and width, cut off at four sigma; edges are repeated."""
    return ndimage.gaussian_filter(values, (sigma, sigma, 0), mode="nearest", truncate=4.0)


def zoomed(values: np.ndarray, factor: float) -> np.ndarray:
    """Return the centre of square values [S, S] or [S, S, C] enlarged by `factor` >= 1, bilinear, in the same size."""
    matrix = _zoom_matrix(len(values), factor)
    rows = np.tensordot(matrix, values, axes=(1, 0))
    return np.moveaxis(np.tensordot(matrix, rows, axes=(1, 1)), 0, 1)


@lru_cache(maxsize=64)
def _zoom_matrix(size: int, factor: float) -> np.ndarray:
    """Return the enlargement of one axis as a matrix [size, size]; interpolation along an axis is linear in the values."""
    crop = int(np.ceil(size / factor))
    start = (size - crop) // 2
    enlarged = ndimage.zoom(np.eye(size)[start : start + crop], (factor, 1.0), order=1)
    start = (len(enlarged) - size) // 2
    return enlarged[start : start + size]


def moved(values: np.ndarray, radius: int, sigma: float, degrees: float) -> np.ndarray:
    """Return values [H, W, ...] as a camera that moves sees them: a weighted mean along a line, which begins at each pixel.

    The weights are one half of a Gaussian of width `sigma` on 2 * `radius` + 1 points. The points are one pixel apart in the direction
    `degrees`, counted from the axis of columns, and rounded to whole pixels; edges are repeated. ImageMagick's motion blur is defined so.
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2.0 * sigma**2))
    weights /= weights.sum()
    angle = np.deg2rad(degrees)
    down, right = (np.ceil(steps * part - 0.5).astype(int) for part in (np.sin(angle), np.cos(angle)))
    height, width = values.shape[:2]
    rows, columns = np.arange(height), np.arange(width)
    blurred = np.zeros(values.shape)
    for weight, row_step, column_step in zip(weights, down, right, strict=True):
        near_rows, near_columns = (rows + row_step).clip(0, height - 1), (columns + column_step).clip(0, width - 1)
        blurred += weight * values[np.ix_(near_rows, near_columns)]
    return blurred


def plasma(generator: np.random.Generator, size: int, decay: float) -> np.ndarray:
    """Return a random cloud [size, size] with values from 0 to 1 and wrapped edges, by the diamond-square algorithm.

    Parameters
    ----------
    size : int
        A power of two.
    decay : float
        The noise of each finer grid is smaller by the square of this factor, as in the program that made CIFAR-10-C.
    """
    field = np.zeros((size, size))
    step, amplitude = size, 1.0
    while step > 1:
        half = step // 2
        cells = size // step

        def noise(amplitude: float = amplitude, cells: int = cells) -> np.ndarray:
            return amplitude * generator.uniform(-1.0, 1.0, (cells, cells))

        # Diamonds: the centre of each square, from its four corners.
        corners = field[::step, ::step]
        below = corners + np.roll(corners, -1, axis=0)
        centres = field[half::step, half::step] = (below + np.roll(below, -1, axis=1)) / 4 + noise()
        # Squares: the middle of each side, from its two ends and the centres on both sides of it.
        across = corners + np.roll(corners, -1, axis=1) + centres + np.roll(centres, 1, axis=0)
        along = corners + np.roll(corners, -1, axis=0) + centres + np.roll(centres, 1, axis=1)
        field[::step, half::step] = across / 4 + noise()
        field[half::step, ::step] = along / 4 + noise()
        step, amplitude = half, amplitude / decay**2
    field -= field.min()
    return field / field.max()
