"""Tests of the readers of published archives: small archives in each format, other sizes, training splits, and what is refused."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness import datasets
from harness.runner.protocol import default_threat
from model_zoo.errors import DamagedFileError, MissingDataError, UsageError
from tests.harness.datasets.archives import (
    pixels,
    write_gtsrb,
    write_gtsrb_training,
    write_idx,
    write_mnist,
    write_svhn,
    write_tiny_imagenet,
)

NAMES = ("gtsrb", "mnist", "svhn", "tiny-imagenet")


@pytest.mark.parametrize(("folder", "suffix"), [("mnist", ".gz"), ("MNIST/raw", ""), (".", ".gz")])
def test_mnist_is_read_in_the_order_of_its_files(tmp_path: Path, folder: str, suffix: str) -> None:
    assert not datasets.present("mnist", tmp_path)
    expected = write_mnist(tmp_path / folder, 12, suffix=suffix)
    images = datasets.load("mnist", tmp_path, 11)
    assert datasets.present("mnist", tmp_path) and images.name == "mnist"
    assert np.array_equal(images.images[..., 0], expected[:11]) and images.labels.tolist() == [*range(10), 0]
    assert any("is not the published file" in note for note in images.notes) == (suffix == ".gz")


def test_svhn_reads_label_10_as_digit_0(tmp_path: Path) -> None:
    expected = write_svhn(tmp_path / "svhn", 12)
    images = datasets.load("svhn", tmp_path)
    assert np.array_equal(images.images, expected) and images.labels.tolist() == [*range(10), 0, 1]


@pytest.mark.parametrize(("root", "table"), [("gtsrb", "GT-final_test.csv"), (".", "GTSRB/Final_Test/Images/GT-final_test.csv")])
def test_gtsrb_resizes_whole_images(tmp_path: Path, root: str, table: str) -> None:
    write_gtsrb(tmp_path / root, 45, table)
    images = datasets.load("gtsrb", tmp_path)
    assert images.images.shape == (45, 32, 32, 3) and images.labels.tolist() == [*range(43), 0, 1]
    file = tmp_path / root / "GTSRB/Final_Test/Images/00001.ppm"
    resized = np.asarray(Image.open(file).resize((48, 48), Image.Resampling.BILINEAR))
    assert np.array_equal(datasets.load("gtsrb?resize=48", tmp_path, 2).images[1], resized)


@pytest.mark.parametrize("layout", ["GTSRB/Final_Training/Images", "GTSRB/Training"])
def test_gtsrb_trains_on_both_layouts(tmp_path: Path, layout: str) -> None:
    write_gtsrb_training(tmp_path / "gtsrb", (2, 40), layout)
    images = datasets.load_training("gtsrb", tmp_path)
    assert images.labels.tolist() == [2, 40] and images.images.shape == (2, 32, 32, 3)


def test_classes_of_tiny_imagenet_are_sorted(tmp_path: Path) -> None:
    write_tiny_imagenet(tmp_path, 4)
    images = datasets.load("tiny-imagenet", tmp_path)
    assert images.images.shape == (4, 64, 64, 3) and images.labels.tolist() == [0, 1, 2, 3] and len(images.classes) == 200
    write_tiny_imagenet(tmp_path, 3, "train")
    assert datasets.load_training("tiny-imagenet", tmp_path).labels.tolist() == [0, 1, 2]


def test_training_splits_are_other_files(tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist", 12)
    write_svhn(tmp_path, 12)
    for name in ("mnist", "svhn"):
        with pytest.raises(MissingDataError, match="train"):
            datasets.load_training(name, tmp_path)
    write_mnist(tmp_path / "mnist", 20, "train")
    write_svhn(tmp_path, 20, "train")
    assert [len(datasets.load_training(name, tmp_path)) for name in ("mnist", "svhn")] == [20, 20]


def test_images_are_read_with_another_size_and_other_channels(tmp_path: Path) -> None:
    write_mnist(tmp_path, 12)
    name = "mnist?resize=32&channels=3"
    images = datasets.load(name, tmp_path, 3)
    assert images.images.shape == (3, 32, 32, 3) and images.name == name
    info = datasets.describe(images.name)
    assert (info.name, info.family, info.kind.shape) == (name, "mnist", (3, 32, 32))
    with pytest.raises(UsageError, match="read as it is"):
        datasets.load("cifar10-sample?resize=16")


@pytest.mark.parametrize("name", NAMES)
def test_an_absent_archive_is_one_line_with_files_and_folders(tmp_path: Path, name: str) -> None:
    with pytest.raises(MissingDataError) as caught:
        datasets.load(name, tmp_path)
    message = str(caught.value)
    assert str(tmp_path) in message or name == "tiny-imagenet"
    assert "docs/data.md" in message and "..." not in message and "\n" not in message


def test_a_radius_is_stated_only_where_sources_agree() -> None:
    assert default_threat("Linf", "mnist").radius == Fraction(3, 10)
    assert default_threat("Linf", "svhn").radius == Fraction(8, 255)
    for name in ("gtsrb", "tiny-imagenet"):
        with pytest.raises(UsageError, match="--radius"):
            default_threat("Linf", name)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "of no bytes"),
        (b"\x00\x00\x0d\x03" + bytes(12), "header 00000d03"),
        (bytes((0, 0, 8, 3)) + b"\xff" * 12, "a header that says"),
        (bytes((0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2)) + bytes(7), "found 7"),
        (bytes((0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2)) + bytes(9), "found more"),
    ],
)
def test_a_damaged_idx_file_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", np.arange(2))
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DamagedFileError, match=words):
        datasets.load("mnist", tmp_path)


def test_a_damaged_gzip_file_is_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path, 12)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DamagedFileError, match="t10k-images"):
        datasets.load("mnist", tmp_path)


@pytest.mark.parametrize("line", ["00099.ppm;9;9;1;1;8;8;3", "../x.ppm;9;9;1;1;8;8;3", "00000.ppm;9;9;1;1;8;8;43", "00000.ppm"])
def test_rows_of_gtsrb_name_files_and_classes(tmp_path: Path, line: str) -> None:
    write_gtsrb(tmp_path, 2)
    with (tmp_path / "GT-final_test.csv").open("a") as table:
        table.write(line + "\n")
    with pytest.raises(DamagedFileError, match="line 4"):
        datasets.load("gtsrb", tmp_path)


def test_labels_outside_the_classes_are_refused(tmp_path: Path) -> None:
    write_idx(tmp_path / "t10k-images-idx3-ubyte", pixels([1, 2, 3], 10, 28, 28))
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", np.array([1, 2, 10]))
    with pytest.raises(DamagedFileError, match="from 0 to 9"):
        datasets.load("mnist", tmp_path)
    write_tiny_imagenet(tmp_path, 3)
    annotations = tmp_path / "tiny-imagenet-200/val/val_annotations.txt"
    annotations.write_text(annotations.read_text() + "val_0.JPEG\tn99999999\t0\n")
    with pytest.raises(DamagedFileError, match="line 4"):
        datasets.load("tiny-imagenet", tmp_path)
