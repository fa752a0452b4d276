"""SVHN, cropped digits (Netzer et al. 2011): `test_32x32.mat` and `train_32x32.mat` as published, in their order.

The label 10 of the files is the digit 0.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from harness.datasets.base import DataKind, DatasetInfo, ImageSet
from harness.datasets.published import TEST, TRAIN, find, has, note_changes, published
from harness.datasets.reading import Reading
from model_zoo.errors import DamagedFileError

FOLDERS = (".", "svhn", "SVHN")
DIGITS = 10
# Published md5, as torchvision has them.
MD5 = {TEST: "eb5a983be6a315427106f1b164d9cef3", TRAIN: "e26dedcc434d2e4c54c9b2d4a06d8373"}
# The radius of Rice et al. 2020 (arXiv 2002.11569) and of AdversarialPruningBenchmark. The mirror image of a digit is no digit.
KIND = DataKind("svhn", DIGITS, (3, 32, 32), {"Linf": Fraction(8, 255)}, mirrors=False)
INFO = DatasetInfo(
    "svhn",
    "SVHN test split, cropped digits",
    KIND,
    26_032,
    lambda data_dir: has(data_dir, FOLDERS, [f"{TEST}_32x32.mat"]),
    "put test_32x32.mat and train_32x32.mat into DATA_DIR or DATA_DIR/svhn",
)


def read(data_dir: Path, split: str, n: int | None, reading: Reading) -> ImageSet:
    """Return a split; see `harness.datasets.published.ReadSplit`.

    Raises
    ------
    MissingDataError
        If the file is absent.
    DamagedFileError
        If it cannot be read, or a label is not from 1 to 10.
    """
    # Imported here, because scipy is slow to import.
    from harness.datasets.mat import read_mat

    (path,) = find("svhn", data_dir, FOLDERS, [f"{split}_32x32.mat"])
    images, labels = read_mat(path)
    if images.dtype != np.uint8:
        raise DamagedFileError(path, "images of type uint8", f"type {images.dtype}")
    if labels.dtype.kind not in "iu" or labels.min() < 1 or labels.max() > DIGITS:
        raise DamagedFileError(path, "labels from 1 to 10", f"labels from {labels.min()} to {labels.max()}")
    digits = (labels[:n] % DIGITS).astype(np.int64)
    pixels = reading.apply(path, images[:n])
    return ImageSet("svhn", pixels, digits, np.arange(len(digits)), tuple(map(str, range(DIGITS))), note_changes(path, [MD5[split]]))


SOURCES = {"svhn": published(INFO, 73_257, read)}
