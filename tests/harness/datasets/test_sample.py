"""Tests of the shipped samples: content and order, round trips, and errors for damaged files."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from harness import datasets
from harness.datasets.base import ImageSet
from harness.datasets.class_names import CIFAR10, CIFAR100
from harness.datasets.make_sample import first_of_each_class, main, smallest_hashes_of_each_class, write_sample
from harness.datasets.sample import FOLDER, from_sprite, read_sample, to_sprite
from model_zoo.errors import DamagedFileError


@pytest.mark.parametrize(("name", "classes", "per_class"), [("cifar10-sample", 10, 100), ("cifar100-sample", 100, 10)])
def test_a_sample_has_1000_balanced_images(name: str, classes: int, per_class: int) -> None:
    sample = datasets.load(name)
    assert sample.images.shape == (1000, 32, 32, 3) and len(sample.classes) == classes
    assert np.bincount(sample.labels).tolist() == [per_class] * classes
    assert len(np.unique(sample.images.reshape(1000, -1), axis=0)) == 1000


def test_the_cifar10_sample_is_in_official_order() -> None:
    sample = datasets.load("cifar10-sample")
    assert (np.diff(sample.index) > 0).all() and sample.index[-1] == 1193
    # The first test images of CIFAR-10: cat, ship, ship, airplane, frog.
    assert [CIFAR10[label] for label in sample.labels[:5]] == ["cat", "ship", "ship", "airplane", "frog"]


def test_files_are_small_enough_to_ship() -> None:
    assert all(path.stat().st_size < 2**20 for path in FOLDER.iterdir())


def test_sprite_round_trip() -> None:
    images = np.random.default_rng(0).integers(0, 256, (250, 8, 8, 3), dtype=np.uint8)
    assert to_sprite(images).shape == (80, 200, 3)
    assert np.array_equal(from_sprite(to_sprite(images), 8), images)


def test_write_and_read_round_trip(tmp_path: Path) -> None:
    first_ten = datasets.load("cifar10-sample").first(10)
    # Ten images repeated 25 times compress quickly.
    rows = np.arange(250) % 10
    repeated = ImageSet("part", first_ten.images[rows], first_ten.labels[rows], first_ten.index[rows], first_ten.classes)
    write_sample(repeated, "part", tmp_path)
    assert read_sample("part", "part", CIFAR10, tmp_path).sha256 == repeated.sha256


def test_loaded_images_are_read_only() -> None:
    sample = datasets.load("cifar10-sample", n=3)
    with pytest.raises(ValueError, match="read-only"):
        sample.images[0] = 0


@pytest.mark.parametrize(
    "change",
    [{"labels": [10] * 1000}, {"labels": [0] * 999}, {"labels": ["cat"] * 1000}, {"files": {}}, {"files": 7}, {"index": [0] * 1000}],
)
def test_a_description_that_does_not_match_the_images_is_an_error(change: dict[str, object], tmp_path: Path) -> None:
    folder = tmp_path / "samples"
    shutil.copytree(FOLDER, folder)
    path = folder / "cifar10_sample.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DamagedFileError, match=r"cifar10_sample\.json"):
        read_sample("cifar10_sample", "cifar10-sample", CIFAR10, folder)


def test_selection_rules() -> None:
    sample = datasets.load("cifar10-sample")
    selected = first_of_each_class(sample, 3)
    assert np.bincount(selected.labels).tolist() == [3] * 10 and (np.diff(selected.index) > 0).all()
    shuffled = sample.images[::-1], sample.labels[::-1], sample.index[::-1]
    forward, backward = (smallest_hashes_of_each_class(images, 3) for images in (sample, type(sample)("copy", *shuffled, sample.classes)))
    assert forward.sha256 == backward.sha256


@pytest.mark.parametrize("file", ["cifar10_sample_2.webp", "cifar10_sample.json"])
@pytest.mark.parametrize("damage", ["cut", "absent", "changed"])
def test_a_damaged_sample_is_an_error_that_names_the_file(file: str, damage: str, tmp_path: Path) -> None:
    folder = tmp_path / "samples"
    shutil.copytree(FOLDER, folder)
    path = folder / file
    content = path.read_bytes()
    if damage == "absent":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else content[:-9] + b"7" + content[-8:])
    with pytest.raises(DamagedFileError, match=file.split(".")[0]):
        read_sample("cifar10_sample", "cifar10-sample", CIFAR10, folder)


@pytest.mark.needs_cifar
@pytest.mark.slow
def test_remaking_the_samples_gives_the_shipped_ones(tmp_path: Path) -> None:
    main(["--data-dir", os.environ["HARNESS_DATA_DIR"], "--out", str(tmp_path)])
    for family, classes in (("cifar10", CIFAR10), ("cifar100", CIFAR100)):
        sample = read_sample(f"{family}_sample", f"{family}-sample", classes, tmp_path)
        assert sample.sha256 == datasets.load(f"{family}-sample").sha256


@pytest.mark.needs_cifar
def test_shipped_samples_are_subsets_of_the_full_splits() -> None:
    for name, choose, per_class in (("cifar10", first_of_each_class, 100), ("cifar100", smallest_hashes_of_each_class, 10)):
        assert choose(datasets.load(name), per_class).sha256 == datasets.load(f"{name}-sample").sha256
