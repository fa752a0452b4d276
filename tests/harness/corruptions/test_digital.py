"""Tests of digital changes: contrast, deformation, pixelation, compression."""

import io

import numpy as np
import pytest
from PIL import Image

from harness import corruptions
from harness.corruptions import corrupt
from harness.datasets.base import ImageSet
from tests.harness.corruptions.conftest import plain

QUALITIES = (80, 65, 58, 50, 40)


@pytest.mark.parametrize(("severity", "factor"), list(enumerate((0.75, 0.5, 0.4, 0.3, 0.15), start=1)))
def test_contrast_scales_the_deviation_of_each_channel(severity: int, factor: float, photographs: ImageSet) -> None:
    flat = corrupt(photographs, corruptions.get("contrast"), severity).images.astype(float)
    before = photographs.images.astype(float)
    assert flat.std(axis=(1, 2)) == pytest.approx(factor * before.std(axis=(1, 2)), abs=0.5)
    assert flat.mean(axis=(1, 2)) == pytest.approx(before.mean(axis=(1, 2)) - 0.5, abs=0.5)


@pytest.mark.parametrize(("severity", "size"), list(enumerate((30, 28, 27, 24, 20), start=1)))
def test_pixelation_leaves_as_many_rows_as_the_small_image_has(severity: int, size: int) -> None:
    images = plain(0, 1)
    images.images[0] = np.random.default_rng(0).integers(0, 256, (32, 32, 3))
    result = corrupt(images, corruptions.get("pixelate"), severity).images[0]
    assert len(np.unique(result.reshape(32, -1), axis=0)) == size
    small = np.array(Image.fromarray(images.images[0]).resize((size, size), Image.Resampling.BOX))
    assert set(map(tuple, result.reshape(-1, 3))) == set(map(tuple, small.reshape(-1, 3)))


@pytest.mark.parametrize(("severity", "quality"), list(enumerate(QUALITIES, start=1)))
def test_compression_is_that_of_its_quality(severity: int, quality: int, photographs: ImageSet) -> None:
    result = corrupt(photographs.first(3), corruptions.get("jpeg-compression"), severity).images
    for image, compressed in zip(photographs.images, result, strict=False):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        assert (np.array(Image.open(file)) == compressed).all()


def test_files_of_higher_severities_are_smaller(photographs: ImageSet) -> None:
    sizes = []
    for quality in QUALITIES:
        file = io.BytesIO()
        Image.fromarray(photographs.images[0]).save(file, "JPEG", quality=quality)
        sizes.append(len(file.getvalue()))
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 5


def test_the_elastic_transform_moves_pixels_by_a_few(photographs: ImageSet) -> None:
    ramp = plain(0, 8)
    ramp.images[:] = (np.arange(32) * 8).astype(np.uint8)[None, None, :, None]
    for severity, corner_shift in ((1, 0.08), (5, 0.03)):
        moved = corrupt(ramp, corruptions.get("elastic-transform"), severity).images[:, 12:20, 12:20, 0].astype(float)
        shifts = np.abs(moved - ramp.images[:, 12:20, 12:20, 0]) / 8
        assert shifts.mean() > 0.05 and shifts.max() < 32 * (2 * corner_shift + 0.1) + 1
    assert (corrupt(plain(90, 1), corruptions.get("elastic-transform"), 5).images >= 89).all(), "edges are mirrored, not filled"


def test_only_the_affine_map_is_left_at_the_first_severity() -> None:
    diagonal = plain(0, 1)
    rows, columns = np.mgrid[:32, :32]
    diagonal.images[0] = (3 * rows + 4 * columns)[..., None]
    centre = corrupt(diagonal, corruptions.get("elastic-transform"), 1).images[0, 10:22, 10:22, 0].astype(float)
    second_differences = np.abs(np.diff(centre, n=2, axis=0)).max(), np.abs(np.diff(centre, n=2, axis=1)).max()
    assert max(second_differences) <= 2, "a plane stays a plane, up to rounding"
