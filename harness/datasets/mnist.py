"""MNIST (LeCun et al. 1998): the four idx-ubyte files as published, compressed by gzip or not, in their order."""

from __future__ import annotations

import gzip
from fractions import Fraction
from pathlib import Path
from typing import IO, cast

import numpy as np

from harness.datasets.base import DataKind, DatasetInfo, ImageSet
from harness.datasets.published import TEST, TRAIN, find, has, note_changes, published
from harness.datasets.reading import Reading
from harness.datasets.regular import check_regular
from model_zoo.errors import DamagedFileError

FOLDERS = ("MNIST/raw", "mnist", "MNIST", ".")
PREFIXES = {TEST: "t10k", TRAIN: "train"}
CLASSES = tuple(map(str, range(10)))
# Published md5 of the compressed files, as torchvision has them.
MD5 = (
    "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "d53e105ee54ea40749a09fcbcd1e9432",
    "9fb629c4189551a2d022fa330f9573f3",
    "ec29112dd5afa0611ce80d1b7f02629c",
)
# The radius of Madry et al. 2018 (arXiv 1706.06083). The mirror image of a digit is no digit.
KIND = DataKind("mnist", len(CLASSES), (1, 28, 28), {"Linf": Fraction(3, 10)}, mirrors=False)
# Largest number of bytes of images, and bytes of the type code and of the number of axes at the beginning of a file.
_LARGEST, _UBYTE = 2**30, 8


def _files(split: str) -> list[list[str]]:
    names = [f"{PREFIXES[split]}-images-idx3-ubyte", f"{PREFIXES[split]}-labels-idx1-ubyte"]
    return [names, [f"{name}.gz" for name in names]]


INFO = DatasetInfo(
    "mnist",
    "MNIST test split, 28 x 28 grey",
    KIND,
    10_000,
    lambda data_dir: has(data_dir, FOLDERS, *_files(TEST)),
    "put the four idx-ubyte files, .gz or not, into DATA_DIR/mnist or DATA_DIR/MNIST/raw",
)


def read_idx(path: Path, axes: int) -> np.ndarray:
    """Return the array uint8 of an idx file with this number of axes, compressed if its name ends in .gz.

    Raises
    ------
    DamagedFileError
        If the file has another type or number of axes, or fewer or more bytes than its header says.
    """
    expected = f"an idx file of unsigned bytes with {axes} axes"
    check_regular(path, expected)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as opened:
            file = cast(IO[bytes], opened)
            header = file.read(4 + 4 * axes)
            if len(header) < 4 + 4 * axes or header[:4] != bytes((0, 0, _UBYTE, axes)):
                raise DamagedFileError(path, expected, f"a header {header[:4].hex() or 'of no bytes'}")
            shape = [int.from_bytes(header[start : start + 4], "big") for start in range(4, len(header), 4)]
            size = int(np.prod(shape, dtype=np.float64))
            if not 0 < size <= _LARGEST:
                raise DamagedFileError(path, f"from 1 to {_LARGEST:,} bytes", f"a header that says {shape}")
            content = file.read(size + 1)
    except (OSError, EOFError) as error:
        raise DamagedFileError(path, expected, str(error)[:80]) from None
    if len(content) != size:
        raise DamagedFileError(path, f"{size:,} bytes of {shape}", "more" if len(content) > size else f"{len(content):,}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def read(data_dir: Path, split: str, n: int | None, reading: Reading) -> ImageSet:
    """Return a split; see `harness.datasets.published.ReadSplit`.

    Raises
    ------
    MissingDataError
        If a file is absent.
    DamagedFileError
        If a file cannot be read, the numbers of images and labels differ, or a label is not a digit.
    """
    paths = find("mnist", data_dir, FOLDERS, *_files(split))
    images, labels = read_idx(paths[0], 3), read_idx(paths[1], 1)
    if len(images) != len(labels) or labels.max() >= len(CLASSES):
        actual = f"{len(labels)} labels from {labels.min()} to {labels.max()}"
        raise DamagedFileError(paths[1], f"{len(images)} labels from 0 to 9", actual)
    notes = tuple(note for path in paths if path.suffix == ".gz" for note in note_changes(path, MD5))
    pixels = reading.apply(paths[0], images[:n, :, :, None])
    return ImageSet("mnist", pixels, labels[:n].astype(np.int64), np.arange(len(pixels)), CLASSES, notes)


SOURCES = {"mnist": published(INFO, 60_000, read)}
