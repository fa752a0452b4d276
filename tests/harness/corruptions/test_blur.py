"""Tests of blurs on images whose result is known."""

import numpy as np
import pytest
from scipy import ndimage

from harness import corruptions
from harness.corruptions import corrupt
from harness.corruptions.blur import disk, glass_blur
from harness.corruptions.filters import moved, zoomed
from harness.datasets.base import ImageSet
from tests.harness.corruptions.conftest import plain

BLURS = ("defocus-blur", "glass-blur", "motion-blur", "zoom-blur")


@pytest.mark.parametrize("name", BLURS)
@pytest.mark.parametrize("severity", [1, 5])
def test_a_plain_image_stays_plain(name: str, severity: int) -> None:
    assert np.abs(corrupt(plain(100, 2), corruptions.get(name), severity).images.astype(int) - 100).max() <= 1


@pytest.mark.parametrize("name", ["defocus-blur", "motion-blur", "zoom-blur"])
def test_blur_lowers_the_contrast_between_neighbours(name: str, photographs: ImageSet) -> None:
    sharpness = [float(np.abs(np.diff(photographs.images.astype(float), axis=2)).mean())]
    for severity in range(1, 6):
        blurred = corrupt(photographs, corruptions.get(name), severity).images.astype(float)
        sharpness.append(float(np.abs(np.diff(blurred, axis=2)).mean()))
    assert sharpness[5] < sharpness[3] < sharpness[1] < sharpness[0]


def test_the_disk_is_a_smoothed_circle() -> None:
    for radius, sigma in ((0.3, 0.4), (1, 0.2), (1.5, 0.1)):
        kernel = disk(radius, sigma)
        assert kernel.sum() == pytest.approx(1.0) and (kernel == kernel.T).all() and (kernel == kernel[::-1]).all()
    # At radius 1.5, with hardly any smoothing, it is the mean of 3 x 3 pixels.
    assert disk(1.5, 0.1)[1:4, 1:4] == pytest.approx(np.full((3, 3), 1 / 9))
    # At radius 0.3, only the Gaussian remains.
    profile = np.array([np.exp(-0.5 / 0.4**2), 1.0, np.exp(-0.5 / 0.4**2)])
    assert disk(0.3, 0.4) == pytest.approx(np.outer(profile, profile) / profile.sum() ** 2)


def test_glass_blur_copies_neighbours_above_and_to_the_left() -> None:
    rows, columns = np.mgrid[:32, :32]
    image = np.stack([rows, columns, np.zeros_like(rows)], axis=2).astype(np.uint8)
    result = glass_blur(image, np.random.default_rng(0), 0.0, 1)
    moves = image[..., :2].astype(int) - result[..., :2]
    # Rounding down twice may take one step from a value.
    assert moves.min() >= 0 and moves[2:, 2:].max() <= 3
    assert 0.9 < moves[2:, 2:].mean() - moves[:2].mean() + 0.5 < 1.1 + 0.5


def test_motion_blur_spreads_a_point_along_its_direction_with_half_a_gaussian() -> None:
    point = np.zeros((32, 32))
    point[16, 16] = 1.0
    blurred = moved(point, 6, 2.0, 0.0)
    # Each pixel looks to the right, so the point spreads to the left.
    weights = np.exp(-(np.arange(13) ** 2) / 8.0)
    assert blurred[16, 4:17][::-1] == pytest.approx(weights / weights.sum())
    assert blurred.sum() == pytest.approx(1.0)
    assert (moved(point, 6, 2.0, 90.0) == blurred.T).all()


@pytest.mark.parametrize("factor", [1.0, 1.05, 1.25, 2.25])
def test_zooming_as_a_matrix_equals_interpolation_in_two_dimensions(factor: float) -> None:
    values = np.random.default_rng(0).random((32, 32, 3))
    crop = int(np.ceil(32 / factor))
    start = (32 - crop) // 2
    enlarged = ndimage.zoom(values[start : start + crop, start : start + crop], (factor, factor, 1), order=1)
    start = (len(enlarged) - 32) // 2
    assert zoomed(values, factor) == pytest.approx(enlarged[start : start + 32, start : start + 32])


def test_zoom_blur_leaves_the_centre_sharp_and_blurs_the_edge() -> None:
    # Stripes of four rows, because the enlargements of narrower ones cancel out even near the centre.
    board = plain(0, 1)
    board.images[:, np.arange(32) // 4 % 2 == 0] = 255
    blurred = corrupt(board, corruptions.get("zoom-blur"), 5).images[0, :, :, 0].astype(float)
    steps = np.abs(np.diff(blurred, axis=0)).max(axis=1)
    assert steps[13:18].max() > 1.3 * steps[[0, 1, 2, 3, 4, 26, 27, 28, 29, 30]].max()
