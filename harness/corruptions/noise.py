"""Noise of sensors: Gaussian, Poisson ("shot") and impulse noise."""

from __future__ import annotations

import numpy as np

from harness.corruptions.common import Corruption, to_pixels, to_unit


def gaussian_noise(image: np.ndarray, generator: np.random.Generator, sigma: float) -> np.ndarray:
    """Add independent normal noise to every value; `sigma` is its standard deviation in the [0, 1] range."""
    return to_pixels(to_unit(image) + generator.normal(0.0, sigma, image.shape))


def shot_noise(image: np.ndarray, generator: np.random.Generator, photons: float) -> np.ndarray:
    """Replace every value by a Poisson count; `photons` is the expected count of the brightest value."""
    return to_pixels(generator.poisson(to_unit(image) * photons) / photons)


def impulse_noise(image: np.ndarray, generator: np.random.Generator, share: float) -> np.ndarray:
    """Set a random share of all values to the smallest or the largest value, with equal probability; channels are independent."""
    is_replaced = generator.random(image.shape) < share
    extremes = np.where(generator.random(image.shape) < 0.5, 0, 255)
    return np.where(is_replaced, extremes, image).astype(np.uint8)


CORRUPTIONS = (
    Corruption("gaussian-noise", "Gaussian noise", "noise", gaussian_noise, ((0.04,), (0.06,), (0.08,), (0.09,), (0.10,))),
    Corruption("shot-noise", "shot noise", "noise", shot_noise, ((500,), (250,), (100,), (75,), (50,))),
    Corruption("impulse-noise", "impulse noise", "noise", impulse_noise, ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,))),
)
