"""Tiny-ImageNet-200: 64 x 64 images of 200 ImageNet classes, from the unpacked archive `tiny-imagenet-200`.

Its test images have no labels, so the validation images are the test split, in the order of `val/val_annotations.txt`. Classes are the
lines of `wnids.txt`, sorted, as loaders of class folders number them.
"""

from __future__ import annotations

from pathlib import Path

from harness.datasets.base import DataKind, DatasetInfo, ImageSet
from harness.datasets.published import TEST, find, has, published
from harness.datasets.read_files import read_tree
from harness.datasets.reading import Reading
from harness.datasets.regular import read_text
from harness.datasets.tree import Tree
from model_zoo.errors import DamagedFileError

FOLDERS = ("tiny-imagenet-200",)
CLASSES, SIZE = 200, 64
LIST, ANNOTATIONS, IMAGES, TRAINING = "wnids.txt", "val/val_annotations.txt", "val/images", "train"
# A radius is not stated, because published ones differ (4/255 and 8/255).
KIND = DataKind("tiny-imagenet", CLASSES, (3, SIZE, SIZE))
INFO = DatasetInfo(
    "tiny-imagenet",
    "Tiny-ImageNet validation split, 64 x 64",
    KIND,
    10_000,
    lambda data_dir: has(data_dir, FOLDERS, [LIST, ANNOTATIONS, IMAGES]),
    "unpack tiny-imagenet-200.zip in DATA_DIR",
)


def read(data_dir: Path, split: str, n: int | None, reading: Reading) -> ImageSet:
    """Return a split; see `harness.datasets.published.ReadSplit`.

    Raises
    ------
    MissingDataError
        If a list or the images are absent.
    DamagedFileError
        If a list does not have 200 classes or names a file that is absent, or an image cannot be decoded.
    """
    listing, *parts = find("tiny-imagenet", data_dir, FOLDERS, [LIST, *([ANNOTATIONS, IMAGES] if split == TEST else [TRAINING])])
    classes = tuple(sorted(set(read_text(listing, "one class per line").split())))
    if len(classes) != CLASSES:
        raise DamagedFileError(listing, f"{CLASSES} classes", str(len(classes)))
    tree = _list_validation(parts[0], parts[1], classes) if split == TEST else _list_training(parts[0], classes)
    return read_tree("tiny-imagenet", tree, n, reading.resized, reading.channels or 3)


def _list_validation(annotations: Path, folder: Path, classes: tuple[str, ...]) -> Tree:
    labels_by_class = {name: label for label, name in enumerate(classes)}
    files, labels = [], []
    for number, line in enumerate(read_text(annotations, "lines with a file and a class").splitlines(), start=1):
        name, _, rest = line.partition("\t")
        label = labels_by_class.get(rest.partition("\t")[0])
        if label is None or "/" in name or not (folder / name).is_file():
            raise DamagedFileError(annotations, f"files of {IMAGES} with classes of {LIST}", f"{line[:40]!r} in line {number}")
        files.append(folder / name)
        labels.append(label)
    return Tree(files, labels, classes)


def _list_training(folder: Path, classes: tuple[str, ...]) -> Tree:
    members = [(path, label) for label, name in enumerate(classes) for path in sorted((folder / name / "images").glob("*.JPEG"))]
    if not members:
        raise DamagedFileError(folder, "files CLASS/images/*.JPEG", "none")
    return Tree([path for path, _ in members], [label for _, label in members], classes)


SOURCES = {"tiny-imagenet": published(INFO, 100_000, read)}
