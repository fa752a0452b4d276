"""Tests of weather: colours, clouds, flakes and ice."""

import colorsys

import numpy as np
import pytest

from harness import corruptions
from harness.corruptions import corrupt
from harness.corruptions.filters import plasma
from harness.corruptions.weather import ice
from harness.datasets.base import ImageSet
from tests.harness.corruptions.conftest import plain

AMOUNTS = (0.05, 0.1, 0.15, 0.2, 0.3)


@pytest.mark.parametrize(("severity", "amount"), list(enumerate(AMOUNTS, start=1)))
def test_brightness_raises_v_of_hsv_and_keeps_hue_and_saturation(severity: int, amount: float, photographs: ImageSet) -> None:
    before = photographs.images[0].reshape(-1, 3)[::37]
    after = corrupt(photographs.first(1), corruptions.get("brightness"), severity).images[0].reshape(-1, 3)[::37]
    for old, new in zip(before / 255, after / 255, strict=True):
        (hue, saturation, value), brighter = colorsys.rgb_to_hsv(*old), colorsys.rgb_to_hsv(*new)
        expected = np.array(colorsys.hsv_to_rgb(hue, saturation, min(value + amount, 1.0)))
        # Rounded down.
        assert (expected - new).min() >= -1e-9 and (expected - new).max() <= 1 / 255
        assert brighter[2] == pytest.approx(min(value + amount, 1.0), abs=1 / 255)


def test_black_becomes_grey() -> None:
    assert (corrupt(plain(0, 1), corruptions.get("brightness"), 5).images == int(0.3 * 255)).all()


def test_a_cloud_fills_its_range_and_is_smoother_with_more_decay() -> None:
    roughness = []
    for decay in (1.75, 2.0, 3.0):
        clouds = [plasma(np.random.default_rng(seed), 32, decay) for seed in range(20)]
        assert all(cloud.shape == (32, 32) and cloud.min() == 0.0 and cloud.max() == 1.0 for cloud in clouds)
        roughness.append(np.mean([np.abs(np.diff(cloud, axis=0)).mean() for cloud in clouds]))
        # The edges are neighbours too.
        seams = np.mean([np.abs(cloud[0] - cloud[-1]).mean() for cloud in clouds])
        assert seams < 2 * roughness[-1]
    assert roughness == sorted(roughness, reverse=True)


def test_the_first_level_of_a_cloud_is_that_of_the_diamond_square_algorithm() -> None:
    generator = np.random.default_rng(0)
    noise = np.random.default_rng(0).uniform(-1, 1, 3)
    centre = noise[0]
    field = np.array([[0.0, centre / 2 + noise[1]], [centre / 2 + noise[2], centre]])
    expected = (field - field.min()) / np.ptp(field)
    assert plasma(generator, 2, 2.0) == pytest.approx(expected)


def test_fog_lightens_dark_pixels_and_keeps_the_brightest_value(photographs: ImageSet) -> None:
    foggy = corrupt(photographs, corruptions.get("fog"), 5).images
    for before, after in zip(photographs.images, foggy, strict=True):
        assert after.max() <= before.max()
        assert after[before < 20].mean() > before[before < 20].mean() if (before < 20).any() else True
        assert after.std() < before.std() + 20


def test_snow_whitens_and_adds_flakes(photographs: ImageSet) -> None:
    mild, heavy = (corrupt(photographs, corruptions.get("snow"), severity).images.astype(int) for severity in (1, 5))
    assert (mild - photographs.images).min() >= -1, "nothing becomes darker"
    assert heavy.mean() > mild.mean() > photographs.images.mean()
    flakes = mild - photographs.images
    assert (flakes[..., 0] > 40).any(), "single flakes"


def test_frost_adds_ice_to_the_dimmed_image() -> None:
    constants = corruptions.get("frost").constants
    assert constants == ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))
    icy = corrupt(plain(0), corruptions.get("frost"), 5).images / 255
    assert 0.1 < icy.mean() / 0.45 < 0.7 and icy.max() <= 0.45
    assert (icy[..., 2] >= icy[..., 0]).all(), "ice is bluish"
    assert len({image.tobytes() for image in icy}) == len(icy), "every image has its own ice"


def test_ice_has_crystals_on_a_dark_ground() -> None:
    pictures = np.stack([ice(np.random.default_rng(seed), 32) for seed in range(10)])
    assert pictures.min() >= 0.0 and pictures.max() <= 1.0
    assert pictures.std(axis=(1, 2)).min() > 0.05
