"""Door `images`: users' picture files, class folders, label tables and arrays; every pixel and label is compared."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from harness import datasets
from harness.datasets.base import ImageSet
from tests.fuzz import array_cases, picture_cases, tree_cases
from tests.fuzz.frame import Door, check_refused, command, refusal

MODEL = "cifar10-rn8w28-dense"


def case(random: Random, folder: Path) -> None:
    """Run one case of one of the six kinds of images."""
    working_folder = Path.cwd()
    # A pickle that is executed creates a folder in the working folder.
    os.chdir(folder)
    try:
        random.choices([_picture, _broken_picture, _tree, _table, _arrays, _broken_arrays], [8, 3, 3, 4, 5, 2])[0](random, folder)
        assert not (folder / "trapped").exists(), "a pickle was executed"
    finally:
        os.chdir(working_folder)


def _load(random: Random, text: str, name: str) -> ImageSet | None:
    """Return the images, or None if they are rejected with a line that contains `name`; some are also passed to a command."""
    loaded: list[ImageSet] = []
    error = refusal(lambda: loaded.append(datasets.load(text)), name)
    if error is not None and random.random() < 0.1:
        check_refused(command("plan", "--model", MODEL, "--dataset", text), name)
    return None if error is not None else loaded[0]


def _check(images: ImageSet | None, expected: object) -> bool:
    """Return whether images were read; they must be read if and only if something is expected."""
    assert images is not None or expected is None, "refused"
    assert images is None or expected is not None, f"accepted: {images.images.shape} {images.labels} {images.classes}"
    return images is not None


def _picture(random: Random, folder: Path) -> None:
    (folder / "set" / "a").mkdir(parents=True)
    path, expected = random.choice(picture_cases.KINDS)(random, folder / "set" / "a")
    images = _load(random, f"folder:{folder / 'set'}", path.name)
    if _check(images, expected) and images is not None:
        assert np.array_equal(images.images[0], expected), "other pixels"
    if expected is not None:
        size = random.randint(1, 40)
        resized = datasets.load(f"folder:{folder / 'set'}?resize={size}")
        expected_resized = Image.fromarray(np.ascontiguousarray(expected)).resize((size, size), Image.Resampling.BILINEAR)
        assert np.array_equal(resized.images[0], np.asarray(expected_resized)), "other pixels after resizing"


def _broken_picture(random: Random, folder: Path) -> None:
    (folder / "set" / "a").mkdir(parents=True)
    if random.random() < 0.5:
        path, expected = picture_cases.damaged_png(random, folder / "set" / "a")
        images = _load(random, f"folder:{folder / 'set'}", path.name)
        assert images is None or np.array_equal(images.images[0], expected), "other pixels"
        return
    path = picture_cases.damaged_without_checksum(random, folder / "set" / "a")
    images = _load(random, f"folder:{folder / 'set'}", path.name)
    if images is not None and not images.notes:
        with Image.open(path) as picture:
            assert np.array_equal(images.images[0], np.asarray(picture.convert("RGB"))), "other pixels than Pillow's"


def _tree(random: Random, folder: Path) -> None:
    root = folder / "set"
    root.mkdir()
    expected = tree_cases.class_folders(random, root)
    images = _load(random, f"folder:{root}", "set")
    if _check(images, expected) and images is not None:
        assert tree_cases.as_expected(images.images, images.labels, images.classes) == expected


def _table(random: Random, folder: Path) -> None:
    root = folder / "set"
    root.mkdir()
    expected = tree_cases.table_of_labels(random, root)
    images = _load(random, f"folder:{root}", "labels.csv")
    if _check(images, expected) and images is not None:
        assert tree_cases.as_expected(images.images, images.labels, images.classes) == expected


def _arrays(random: Random, folder: Path) -> None:
    make, name = random.choice(
        [
            (array_cases.npz, "a.npz"),
            (array_cases.npz, "a b.NPZ"),
            (array_cases.mat, "é.mat"),
            (array_cases.short_header, "a.npz"),
            (array_cases.no_arrays, random.choice(["a.npz", "a.mat"])),
        ]
    )
    # numpy appends .npz to other suffixes, so the file is renamed.
    path = folder / name.lower()
    expected = make(random, path)
    path.rename(folder / name)
    images = _load(random, str(folder / name), name)
    if _check(images, expected) and images is not None and expected is not None:
        _compare(images, *expected)


def _broken_arrays(random: Random, folder: Path) -> None:
    path = folder / random.choice(["a.npz", "a.mat"])
    expected = array_cases.damaged_file(random, path)
    images = _load(random, str(path), path.name)
    if images is not None and expected is not None:
        _compare(images, *expected)


def _compare(images: ImageSet, pixels: np.ndarray, labels: np.ndarray) -> None:
    assert np.array_equal(images.images, pixels), "other pixels"
    assert images.labels.tolist() == labels.tolist(), "other labels"


DOOR = Door("images", full=2_400, ci=40, case=case)
