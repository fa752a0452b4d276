"""Tests of the full CIFAR sets: files are checked by md5, arrays by content, and only allowed types are unpickled."""

import dataclasses
import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from harness import datasets
from harness.datasets import cifar
from harness.datasets.cifar import SETS, TEST, content_sha256, load_train, read_batch, read_published, read_split
from model_zoo.errors import DamagedFileError, MissingDataError, UnknownNameError

SAMPLE = datasets.load("cifar10-sample").first(20)


def official_bytes() -> bytes:
    rows = SAMPLE.images.transpose(0, 3, 1, 2).reshape(20, -1)
    content = pickle.dumps({b"data": rows, b"labels": SAMPLE.labels.tolist(), b"batch_label": b"testing batch 1 of 1"}, protocol=2)
    # Module path that numpy had under Python 2.
    return content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def test_an_official_batch_is_read_after_an_md5_check(tmp_path: Path) -> None:
    path = tmp_path / "test_batch"
    path.write_bytes(official_bytes())
    images, labels = read_batch(path, md5(official_bytes()), b"labels")
    assert np.array_equal(images, SAMPLE.images) and np.array_equal(labels, SAMPLE.labels)
    path.write_bytes(official_bytes()[:-1])
    with pytest.raises(DamagedFileError, match=r"test_batch.*md5"):
        read_batch(path, md5(official_bytes()), b"labels")


def test_types_outside_an_official_batch_are_not_unpickled(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "touched",)  # type: ignore[return-value]

    content = pickle.dumps({b"data": Harmful()})
    path = tmp_path / "test_batch"
    path.write_bytes(content)
    with pytest.raises(pickle.UnpicklingError, match="not part of an official batch"):
        read_batch(path, md5(content), b"labels")
    assert not (tmp_path / "touched").exists()


def test_arrays_are_checked_by_content(tmp_path: Path) -> None:
    path = tmp_path / "cifar10_test.npz"
    np.savez(path, x=SAMPLE.images, y=SAMPLE.labels)
    images, labels = read_published(path, content_sha256(SAMPLE.images, SAMPLE.labels, True), True)
    assert np.array_equal(images, SAMPLE.images) and np.array_equal(labels, SAMPLE.labels)
    with pytest.raises(DamagedFileError, match="content sha256"):
        read_published(path, "0" * 64, True)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DamagedFileError, match=r"cifar10_test\.npz"):
        read_published(path, "0" * 64, True)


@pytest.mark.parametrize(
    "change",
    [
        {"x": SAMPLE.images.reshape(20, -1)},
        {"x": SAMPLE.images.view(np.int8)},
        {"x": SAMPLE.images[:3]},
        {"x": 1},
        {"y": SAMPLE.labels - 5},
        {"y": SAMPLE.labels + 0.5},
        {"y": SAMPLE.labels[:, None]},
        {"y": np.array(["cat"] * 20)},
    ],
)
def test_arrays_of_another_type_or_shape_are_errors(change: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "cifar10_test.npz"
    np.savez(path, **{"x": SAMPLE.images, "y": SAMPLE.labels, **change})  # type: ignore[arg-type]
    with pytest.raises(DamagedFileError, match=r"x uint8|from 0 to 99|content sha256"):
        read_published(path, content_sha256(SAMPLE.images, SAMPLE.labels, True), True)


def test_a_damaged_archive_is_an_error_at_every_offset(tmp_path: Path) -> None:
    path = tmp_path / "cifar10_test.npz"
    np.savez_compressed(path, x=SAMPLE.images, y=SAMPLE.labels)
    content, expected = path.read_bytes(), content_sha256(SAMPLE.images, SAMPLE.labels, True)
    generator = np.random.default_rng(0)
    for offset in generator.integers(60, len(content) - 700, 40):
        path.write_bytes(content[:offset] + bytes(generator.integers(0, 256, 8, dtype=np.uint8)) + content[offset + 8 :])
        with pytest.raises(DamagedFileError, match=r"cifar10_test\.npz"):
            read_published(path, expected, True)
    with path.open("wb") as file:
        np.save(file, SAMPLE.images)
    with pytest.raises(DamagedFileError, match="arrays x and y"):
        read_published(path, expected, True)


def test_the_order_counts_only_if_it_is_official() -> None:
    forwards, backwards = (SAMPLE.images, SAMPLE.labels), (SAMPLE.images[::-1], SAMPLE.labels[::-1])
    assert content_sha256(*forwards, False) == content_sha256(*backwards, False)
    assert content_sha256(*forwards, True) != content_sha256(*backwards, True)


def small_set(folder: Path) -> cifar.Cifar:
    """Return a CIFAR-10 description with a test split of 20 images, and write its files to `folder`."""
    content = official_bytes()
    (folder / "cifar-10-batches-py").mkdir(parents=True)
    (folder / "cifar-10-batches-py" / "test_batch").write_bytes(content)
    return dataclasses.replace(SETS["cifar10"], batches={TEST: {"test_batch": md5(content)}})


def test_a_split_is_read_in_order(tmp_path: Path) -> None:
    images = read_split(small_set(tmp_path), TEST, tmp_path)
    assert images.index.tolist() == list(range(20)) and np.array_equal(images.images, SAMPLE.images)


def test_missing_files_are_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"HARNESS_DATA_DIR.*cifar10-sample"):
        read_split(SETS["cifar10"], TEST, tmp_path)
    with pytest.raises(UnknownNameError, match="cifar10"):
        load_train("cifar1", tmp_path)


def test_copies_of_cifar100_in_any_order_give_the_same_set(tmp_path: Path) -> None:
    sample = datasets.load("cifar100-sample").first(100)
    expected = content_sha256(sample.images, sample.labels, False)
    data = dataclasses.replace(SETS["cifar100"], content={TEST: expected})
    hashes = set()
    for name, order in (("by-class", np.argsort(sample.labels, kind="stable")), ("reversed", np.arange(100)[::-1])):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "cifar100_test.npz", x=sample.images[order], y=sample.labels[order])
        loaded = read_split(data, TEST, tmp_path / name)
        hashes.add((loaded.sha256, loaded.first(20).sha256))
        assert content_sha256(loaded.images, loaded.labels, False) == expected and loaded.index.tolist() == list(range(100))
    assert len(hashes) == 1


@pytest.mark.needs_cifar
def test_the_first_images_of_cifar100_cover_many_classes() -> None:
    assert len(set(datasets.load("cifar100", n=250).labels.tolist())) > 80


@pytest.mark.needs_cifar
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_test_splits_are_balanced(name: str) -> None:
    test = datasets.load(name)
    assert len(test) == 10_000 and len(set(np.bincount(test.labels).tolist())) == 1
    assert len(datasets.load(name, n=3)) == 3


@pytest.mark.needs_cifar
@pytest.mark.parametrize(("name", "counts"), [("cifar10", [5000] * 10), ("cifar100", [500] * 100)])
def test_the_training_splits_are_complete(name: str, counts: list[int]) -> None:
    assert np.bincount(load_train(name, Path(os.environ["HARNESS_DATA_DIR"])).labels).tolist() == counts
