"""Tests that corruptions are deterministic, independent of the batch, and grow with severity."""

from dataclasses import replace

import numpy as np
import pytest

from harness import corruptions
from harness.corruptions import Corruption, corrupt
from harness.corruptions.common import to_pixels
from harness.datasets.base import ImageSet
from harness.plugins import CORRUPTIONS
from harness.runner.suite import get_suite
from model_zoo.errors import UsageError

NAMES = get_suite("corruptions").evaluation[0].corruptions
GROUPS = {
    "noise": ["gaussian-noise", "shot-noise", "impulse-noise"],
    "blur": ["defocus-blur", "glass-blur", "motion-blur", "zoom-blur"],
    "weather": ["snow", "frost", "fog", "brightness"],
    "digital": ["contrast", "elastic-transform", "pixelate", "jpeg-compression"],
}
# Those of CIFAR-10-C whose constants make a milder severity change more pixels: glass blur copies more or smooths more, the affine map
# of the elastic transform is largest at first, and frost dims the image.
NOT_MONOTONE = ("glass-blur", "elastic-transform", "frost")


def test_the_suite_has_the_fifteen_corruptions_in_their_groups() -> None:
    assert sorted(name for group in GROUPS.values() for name in group) == sorted(NAMES) and len(set(NAMES)) == 15
    assert all(corruptions.get(name).group == group for group, names in GROUPS.items() for name in names)
    assert all(len(corruptions.get(name).constants) == 5 for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_corrupted_in_the_same_way_in_any_batch(name: str, photographs: ImageSet) -> None:
    images = photographs.first(6)
    before = images.images.copy()
    whole = corrupt(images, corruptions.get(name), 3)
    assert whole.images.dtype == np.uint8 and whole.images.shape == images.images.shape
    assert (whole.labels == images.labels).all() and (whole.index == images.index).all()
    part = corrupt(images.take(np.array([4, 1])), corruptions.get(name), 3)
    assert (part.images == whole.images[[4, 1]]).all(), "order and batch mates do not matter"
    assert (images.images == before).all(), "the input is not written to"


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_change_grows_with_severity(name: str, photographs: ImageSet) -> None:
    images = photographs.images.astype(float)
    changes = [float(np.abs(corrupt(photographs, corruptions.get(name), severity).images - images).mean()) for severity in range(1, 6)]
    assert min(changes) > 1.0
    if name not in NOT_MONOTONE:
        assert changes == sorted(changes) and len(set(changes)) == 5


@pytest.mark.parametrize("change", [{"name": "other"}, {"index": np.arange(24) + 1000}])
def test_data_set_index_severity_and_seed_decide_the_random_numbers(change: dict[str, object], photographs: ImageSet) -> None:
    noise = corruptions.get("gaussian-noise")
    first = corrupt(photographs, noise, 1).images
    assert (corrupt(photographs, noise, 1).images == first).all()
    assert (corrupt(replace(photographs, **change), noise, 1).images != first).any()  # type: ignore[arg-type]
    assert (corrupt(photographs, noise, 1, seed=1).images != first).any()
    difference = [corrupt(photographs, noise, severity).images.astype(float) - photographs.images for severity in (1, 2)]
    assert np.corrcoef(difference[0].ravel(), difference[1].ravel())[0, 1] < 0.05


def test_other_images_and_severities_are_refused(photographs: ImageSet) -> None:
    small = replace(photographs, images=photographs.images[:, :16])
    with pytest.raises(UsageError, match="images of 3 x 32 x 32, not of 3 x 16 x 32"):
        corrupt(small, corruptions.get("fog"), 1)
    with pytest.raises(UsageError, match="from 1 to 5, not 6"):
        corrupt(photographs, corruptions.get("fog"), 6)


def test_identities_contain_the_constants_of_one_severity() -> None:
    identity = corruptions.get("fog").identity(5)
    assert identity == {
        "name": "fog",
        "adapter": "corruption",
        "adapter_version": 1,
        "norm": "corruptions",
        "parameters": {"constants": [1.5, 1.75]},
    }


def test_a_corruption_may_be_added() -> None:
    grey = Corruption("grey", "grey", "digital", lambda image, generator, value: np.full_like(image, value), ((1,), (2,), (3,), (4,), (5,)))
    with CORRUPTIONS.temporarily("grey", grey):
        assert corruptions.get("grey").apply(np.zeros((2, 2, 3), np.uint8), 2, np.random.default_rng(0)).max() == 2


def test_values_are_clipped_and_rounded_down() -> None:
    assert to_pixels(np.array([-1.0, 0.0, 0.5, 0.999, 2.0])).tolist() == [0, 0, 127, 254, 255]
