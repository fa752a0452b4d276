"""Tests of noise against its known distribution."""

import numpy as np
import pytest

from harness import corruptions
from harness.corruptions import corrupt
from tests.harness.corruptions.conftest import plain

SIGMAS = (0.04, 0.06, 0.08, 0.09, 0.10)
PHOTONS = (500, 250, 100, 75, 50)
SHARES = (0.01, 0.02, 0.03, 0.05, 0.07)


def values(name: str, severity: int, grey: int) -> np.ndarray:
    return corrupt(plain(grey), corruptions.get(name), severity).images / 255.0


@pytest.mark.parametrize(("severity", "sigma"), list(enumerate(SIGMAS, start=1)))
def test_gaussian_noise_has_its_standard_deviation(severity: int, sigma: float) -> None:
    noise = values("gaussian-noise", severity, 128) - 128 / 255
    assert noise.std() == pytest.approx(sigma, rel=0.03)
    # Rounding down takes half a step of a pixel.
    assert noise.mean() == pytest.approx(-0.5 / 255, abs=5 * sigma / np.sqrt(noise.size))
    channels = noise.reshape(-1, 3)
    assert abs(np.corrcoef(channels[:, 0], channels[:, 1])[0, 1]) < 0.05


@pytest.mark.parametrize(("severity", "photons"), list(enumerate(PHOTONS, start=1)))
def test_the_variance_of_shot_noise_is_proportional_to_brightness(severity: int, photons: int) -> None:
    for grey in (32, 64, 128):
        brightness = grey / 255
        assert values("shot-noise", severity, grey).var() == pytest.approx(brightness / photons, rel=0.06)


def test_shot_noise_leaves_black_as_it_is() -> None:
    assert values("shot-noise", 5, 0).max() == 0


@pytest.mark.parametrize(("severity", "share"), list(enumerate(SHARES, start=1)))
def test_impulse_noise_replaces_its_share_of_the_values_by_both_extremes(severity: int, share: float) -> None:
    pixels = corrupt(plain(100), corruptions.get("impulse-noise"), severity).images
    tolerance = 5 * np.sqrt(share / 2 / pixels.size)
    assert set(np.unique(pixels)) == {0, 100, 255}
    assert (pixels == 0).mean() == pytest.approx(share / 2, abs=tolerance)
    assert (pixels == 255).mean() == pytest.approx(share / 2, abs=tolerance)
