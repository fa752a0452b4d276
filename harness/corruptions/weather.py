"""Weather: snow, frost, fog and brightness."""

from __future__ import annotations

import numpy as np

from harness.corruptions.common import Corruption, to_pixels, to_unit
from harness.corruptions.filters import moved, plasma, zoomed

# Weights of red, green and blue in the grey value of a colour (ITU-R BT.601).
GREY = np.array([0.299, 0.587, 0.114])
# Colours between which this project's frost lies, red, green and blue in the [0, 1] range.
DARK_ICE, BRIGHT_ICE = np.array([0.10, 0.16, 0.24]), np.array([0.85, 0.92, 1.0])


def snow(
    image: np.ndarray,
    generator: np.random.Generator,
    mean: float,
    sigma: float,
    zoom: float,
    threshold: float,
    radius: float,
    motion_sigma: float,
    share: float,
) -> np.ndarray:
    """Whiten the image and add flakes that fall in two opposite directions.

    Flakes are normal noise (`mean`, `sigma`), enlarged by `zoom`, without values below `threshold`, blurred along a line that is within 45
    degrees of the columns. `share` is the weight of the image's own colours.
    """
    values = to_unit(image)
    flakes = zoomed(generator.normal(mean, sigma, image.shape[:2]), zoom)
    flakes = to_pixels(np.where(flakes < threshold, 0.0, flakes))
    flakes = np.rint(moved(flakes, int(radius), motion_sigma, generator.uniform(-135.0, -45.0)))[:, :, None] / 255.0
    whitened = np.maximum(values, (values @ GREY)[:, :, None] * 1.5 + 0.5)
    return to_pixels(share * values + (1.0 - share) * whitened + flakes + np.rot90(flakes, 2))


def frost(image: np.ndarray, generator: np.random.Generator, image_share: float, frost_share: float) -> np.ndarray:
    """Add a picture of ice to the dimmed image.

    The published program takes the ice from six photographs. Here it is drawn, see `ice`, so that results are not those of the official
    files; the two shares are the published ones.
    """
    return to_pixels(image_share * to_unit(image) + frost_share * ice(generator, len(image)))


def ice(generator: np.random.Generator, size: int) -> np.ndarray:
    """Draw ice on a window, [size, size, 3] in [0, 1]: bright crystals along the ridges of three clouds, denser where a fourth is dense."""
    ridges = [(1.0 - np.abs(2.0 * plasma(generator, size, decay) - 1.0)) ** 4 for decay in (1.3, 1.5, 1.7)]
    density = 0.2 + 0.8 * plasma(generator, size, 2.0)
    crystals = np.clip(density * (0.25 + np.max(ridges, axis=0)), 0.0, 1.0)[:, :, None]
    return DARK_ICE + crystals * (BRIGHT_ICE - DARK_ICE)


def fog(image: np.ndarray, generator: np.random.Generator, density: float, decay: float) -> np.ndarray:
    """Add a random cloud times `density`, and scale so that the brightest value of the image can be reached again."""
    values = to_unit(image)
    brightest = values.max()
    clouded = values + density * plasma(generator, len(image), decay)[:, :, None]
    return to_pixels(clouded * brightest / (brightest + density))


def brightness(image: np.ndarray, generator: np.random.Generator, amount: float) -> np.ndarray:
    """Raise V of the HSV colour space, the largest of red, green and blue, by `amount` to at most 1; hue and saturation stay.

    All three values are scaled by the same factor, which keeps hue and saturation; black becomes grey.
    """
    values = to_unit(image)
    largest = values.max(axis=2, keepdims=True)
    raised = np.minimum(largest + amount, 1.0)
    return to_pixels(np.where(largest > 0.0, values * (raised / np.where(largest > 0.0, largest, 1.0)), raised))


CORRUPTIONS = (
    Corruption(
        "snow",
        "snow",
        "weather",
        snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
    ),
    Corruption("frost", "frost (drawn)", "weather", frost, ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))),
    Corruption("fog", "fog", "weather", fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    Corruption("brightness", "brightness", "weather", brightness, ((0.05,), (0.1,), (0.15,), (0.2,), (0.3,))),
)
