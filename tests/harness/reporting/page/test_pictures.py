"""Tests of the pictures of broken images: each shows the image, the adversarial image and their difference."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from harness import datasets
from harness.reporting.page.pictures import GAP, Gallery, strip
from tests.harness.reporting.page.conftest import PRUNED, Material


def units_of(material: Material, attack: str, norm: str) -> tuple[pd.DataFrame, list[str]]:
    frame = material.results[0].outcomes
    selected = frame[(frame["model"] == PRUNED) & (frame["attack"] == attack) & (frame["norm"] == norm)]
    return selected, sorted(set(selected["unit"]))


def test_a_picture_shows_the_amplified_perturbation(material: Material) -> None:
    outcomes, units = units_of(material, "cw-linf", "Linf")
    pictures = Gallery(material.store).pictures("cifar10-sample", outcomes, units)
    assert [picture.image for picture in pictures] == datasets.load("cifar10-sample").index[10:18].tolist()
    first = pictures[0]
    clean = datasets.load("cifar10-sample").images[10]
    with Image.open(io.BytesIO(first.png)) as opened:
        pixels = np.asarray(opened)
    assert pixels.shape == (first.height, first.width, 4) == (32, 96 + 2 * GAP, 4)
    left, middle, right = (pixels[:, start : start + 32, :3].astype(int) for start in (0, 32 + GAP, 64 + 2 * GAP))
    assert (left == clean).all()
    change = np.where(np.arange(32) % 2 == 0, -8, 8)[:, None, None]
    assert np.abs(middle - (clean + change).clip(0, 255)).max() <= 1
    assert (right[1::2] >= 254).all() and (right[::2] <= 1).all()
    assert (first.broken_by, first.size, first.factor) == ("cw-linf", "Linf 8/255", "15.9")
    assert first.label in first.alt and first.taken_for in first.alt and first.label != first.taken_for


def test_distances_use_the_norm_of_the_threat_model(material: Material) -> None:
    outcomes, units = units_of(material, "cw-l2", "L2")
    assert {picture.size for picture in Gallery(material.store).pictures("cifar10-sample", outcomes, units)} == {"L2 0.40"}


def test_missing_units_and_data_sets_have_no_pictures(material: Material) -> None:
    outcomes, units = units_of(material, "cw-linf", "Linf")
    gallery = Gallery(material.store)
    assert gallery.pictures("cifar10-sample", outcomes, ["0" * 64]) == []
    assert gallery.pictures("imagenet100", outcomes, units) == []
    assert gallery.pictures("cifar10-sample", outcomes.iloc[:0], units) == []


@pytest.mark.parametrize("value", [-1.0, 2.0])
def test_values_outside_the_box_are_clipped(value: float) -> None:
    with Image.open(io.BytesIO(strip([np.full((2, 2, 3), value)]))) as opened:
        assert set(np.asarray(opened)[..., 0].ravel().tolist()) == {255 if value > 1 else 0}
