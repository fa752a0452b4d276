"""Blur: out of focus, behind frosted glass, in motion, and while zooming."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from harness.corruptions.common import Corruption, to_pixels, to_unit
from harness.corruptions.filters import moved, smooth, zoomed


def defocus_blur(image: np.ndarray, generator: np.random.Generator, radius: float, sigma: float) -> np.ndarray:
    """Convolve with a disk of `radius` pixels whose edge is smoothed by a 3 x 3 Gaussian of width `sigma`; edges are mirrored."""
    return to_pixels(ndimage.correlate(to_unit(image), disk(radius, sigma)[:, :, None], mode="mirror"))


def disk(radius: float, sigma: float) -> np.ndarray:
    """Return the smoothed disk of `defocus_blur`, [S, S] with sum 1."""
    reach = int(radius) + 1
    offsets = np.arange(-reach, reach + 1)
    inside = (offsets[:, None] ** 2 + offsets[None, :] ** 2 <= radius**2).astype(float)
    profile = np.exp(-(np.arange(-1, 2) ** 2) / (2.0 * sigma**2))
    kernel = ndimage.convolve(inside, np.outer(profile, profile), mode="constant")
    return kernel / kernel.sum()


def glass_blur(image: np.ndarray, generator: np.random.Generator, sigma: float, passes: float) -> np.ndarray:
    """Smooth, replace each pixel by a random one of itself and its neighbours above and to the left, `passes` times, and smooth again.

    The published program means to exchange the two pixels, but its assignment copies one over the other, and its offsets are -1 or 0. As
    it goes from the last pixel to the first, the pixels that it copies are still unchanged in this pass. The first two rows and columns
    stay as they are.
    """
    pixels = to_pixels(smooth(to_unit(image), sigma))
    height, width = pixels.shape[:2]
    rows, columns = np.mgrid[2:height, 2:width]
    for _ in range(int(passes)):
        offsets = generator.integers(-1, 1, (2, *rows.shape))
        pixels[2:, 2:] = pixels[rows + offsets[0], columns + offsets[1]]
    return to_pixels(smooth(to_unit(pixels), sigma))


def motion_blur(image: np.ndarray, generator: np.random.Generator, radius: float, sigma: float) -> np.ndarray:
    """Blur along a line that is within 45 degrees of the rows; see `harness.corruptions.filters.moved`."""
    return np.rint(moved(image, int(radius), sigma, generator.uniform(-45.0, 45.0))).astype(np.uint8)


def zoom_blur(image: np.ndarray, generator: np.random.Generator, steps: float) -> np.ndarray:
    """Return the mean of the image and of its enlargements by 0, 1, 2, ... per cent; `steps` is the number of enlargements."""
    values = to_unit(image)
    enlarged = [zoomed(values, 1.0 + 0.01 * step) for step in range(int(steps))]
    return to_pixels((values + sum(enlarged)) / (len(enlarged) + 1))


CORRUPTIONS = (
    Corruption("defocus-blur", "defocus blur", "blur", defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))),
    Corruption("glass-blur", "glass blur", "blur", glass_blur, ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))),
    Corruption("motion-blur", "motion blur", "blur", motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
    Corruption("zoom-blur", "zoom blur", "blur", zoom_blur, ((7,), (12,), (16,), (21,), (26,))),
)
