"""Digital changes: contrast, elastic deformation, pixelation and JPEG compression."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy import ndimage

from harness.corruptions.common import Corruption, to_pixels, to_unit


def contrast(image: np.ndarray, generator: np.random.Generator, factor: float) -> np.ndarray:
    """Scale the distance of every value to the mean of its channel by `factor`."""
    values = to_unit(image)
    means = values.mean(axis=(0, 1), keepdims=True)
    return to_pixels((values - means) * factor + means)


def elastic_transform(
    image: np.ndarray, generator: np.random.Generator, amount: float, smoothness: float, corner_shift: float
) -> np.ndarray:
    """Move three points of the image at random, and the rest by the affine map that they define; then move every pixel on its own.

    All constants are fractions of the image's size: the largest shift of a single pixel before smoothing, the width of the Gaussian that
    smooths the shifts, and the largest shift of the three points, two of which are opposite corners of a square.
    """
    size = len(image)
    values = to_unit(image)
    rows, columns = np.mgrid[:size, :size].astype(float)
    centre, reach = size // 2, size // 3
    corners = np.array([[centre + reach, centre + reach], [centre - reach, centre + reach], [centre - reach, centre - reach]], dtype=float)
    moved_corners = corners + size * corner_shift * generator.uniform(-1.0, 1.0, corners.shape)
    # Solves for the map from moved to original points, because each output pixel looks for its source.
    affine = np.linalg.solve(np.column_stack([moved_corners, np.ones(3)]), corners)
    sources = np.stack([rows, columns, np.ones_like(rows)], axis=-1) @ affine
    values = _sampled(values, sources[..., 0], sources[..., 1], "mirror")
    shifts = [
        size * amount * ndimage.gaussian_filter(generator.uniform(-1.0, 1.0, (size, size)), size * smoothness, mode="reflect", truncate=3.0)
        for _ in range(2)
    ]
    return to_pixels(_sampled(values, rows + shifts[0], columns + shifts[1], "reflect"))


def _sampled(values: np.ndarray, rows: np.ndarray, columns: np.ndarray, mode: str) -> np.ndarray:
    """Return values [H, W, C] at fractional rows and columns [H, W], bilinear."""
    channels = [ndimage.map_coordinates(channel, [rows, columns], order=1, mode=mode) for channel in np.moveaxis(values, 2, 0)]
    return np.stack(channels, axis=2)


def pixelate(image: np.ndarray, generator: np.random.Generator, factor: float) -> np.ndarray:
    """Scale the image to `factor` of its size and back, each time with means over boxes."""
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize((int(width * factor), int(height * factor)), Image.Resampling.BOX)
    return np.array(small.resize((width, height), Image.Resampling.BOX))


def jpeg_compression(image: np.ndarray, generator: np.random.Generator, quality: float) -> np.ndarray:
    """Compress the image as JPEG of a quality from 1 to 95, and decompress it."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=int(quality))
    return np.array(Image.open(file))


CORRUPTIONS = (
    Corruption("contrast", "contrast", "digital", contrast, ((0.75,), (0.5,), (0.4,), (0.3,), (0.15,))),
    Corruption(
        "elastic-transform",
        "elastic transform",
        "digital",
        elastic_transform,
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    ),
    Corruption("pixelate", "pixelation", "digital", pixelate, ((0.95,), (0.9,), (0.85,), (0.75,), (0.65,))),
    Corruption("jpeg-compression", "JPEG compression", "digital", jpeg_compression, ((80,), (65,), (58,), (50,), (40,))),
)
