"""The samples that ship: 1,000 test images of CIFAR-10 and 1,000 of CIFAR-100, lossless, as sprites of 250 images.

`cifar10-sample` contains the first 100 images of each class in the official test order, kept in that order; `index` is the position in it.
`cifar100-sample` contains the ten test images of each class whose pixels have the smallest sha256, in order of that hash; copies of
CIFAR-100 differ in order, so `index` is the position in the sample.
"""

from __future__ import annotations

import hashlib
import io
import json
from functools import cache, partial
from pathlib import Path

import numpy as np

from harness.datasets.base import DataKind, DatasetInfo, ImageSet, Source
from harness.datasets.cifar_kinds import CIFAR10_KIND, CIFAR100_KIND
from harness.datasets.class_names import CIFAR10, CIFAR100
from model_zoo.errors import DamagedFileError, RefusedError

FOLDER = Path(__file__).parent / "samples"
# Images per sprite, and images per row of a sprite.
SPRITE, COLUMNS = 250, 25


def to_sprite(images: np.ndarray) -> np.ndarray:
    """Return images uint8 [250, S, S, 3] as one picture, uint8 [10 S, 25 S, 3], row by row."""
    _, height, width, channels = images.shape
    rows = images.reshape(-1, COLUMNS, height, width, channels)
    return rows.transpose(0, 2, 1, 3, 4).reshape(-1, COLUMNS * width, channels)


def from_sprite(sprite: np.ndarray, size: int = 32) -> np.ndarray:
    """Return the images of a sprite, uint8 [N, size, size, 3]; the inverse of `to_sprite`."""
    rows = sprite.reshape(-1, size, COLUMNS, size, 3)
    return np.ascontiguousarray(rows.transpose(0, 2, 1, 3, 4)).reshape(-1, size, size, 3)


def read_sample(stem: str, name: str, classes: tuple[str, ...], folder: Path = FOLDER) -> ImageSet:
    """Read a sample, and compare every file and the decoded content with the hashes in its JSON file.

    Raises
    ------
    DamagedFileError
        If a file is missing, cut short or changed; the error names it.
    """
    from PIL import Image

    listing = folder / f"{stem}.json"
    try:
        description = json.loads(listing.read_text(encoding="utf-8"))
        files, content = dict(description["files"]), description["content_sha256"]
        labels, index = np.array(description["labels"], np.int64), np.array(description["index"], np.int64)
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise DamagedFileError(listing, "the description of a sample", f"{type(error).__name__}: {error}") from None
    parts = []
    for file, sha256 in files.items():
        path = folder / file
        file_bytes = path.read_bytes() if path.is_file() else b""
        actual = hashlib.sha256(file_bytes).hexdigest()
        if actual != sha256:
            raise DamagedFileError(path, f"sha256 {sha256}", f"{actual} ({len(file_bytes)} bytes)" if file_bytes else "no file")
        with Image.open(io.BytesIO(file_bytes)) as picture:
            parts.append(from_sprite(np.asarray(picture.convert("RGB"))))
    try:
        images = ImageSet(name, np.concatenate(parts), labels, index, classes)
    except (ValueError, RefusedError) as error:
        raise DamagedFileError(listing, "labels and indices of its images", str(error)) from None
    if images.sha256 != content:
        raise DamagedFileError(listing, f"images with sha256 {content}", images.sha256)
    return images


@cache
def _read_shipped(stem: str, name: str, classes: tuple[str, ...]) -> ImageSet:
    images = read_sample(stem, name, classes)
    # All callers share these arrays, so they are made read-only.
    for array in (images.images, images.labels, images.index):
        array.flags.writeable = False
    return images


def _make_source(kind: DataKind, classes: tuple[str, ...], title: str) -> Source:
    name, stem = f"{kind.name}-sample", f"{kind.name}_sample"
    info = DatasetInfo(name, title, kind, 1000, lambda data_dir: True, "it ships with the package")
    read = partial(_read_shipped, stem, name, classes)
    return Source(info, lambda data_dir, n, download: read())


SOURCES = {
    source.info.name: source
    for source in (
        _make_source(CIFAR10_KIND, CIFAR10, "1,000 CIFAR-10 test images, 100 per class; shipped"),
        _make_source(CIFAR100_KIND, CIFAR100, "1,000 CIFAR-100 test images, 10 per class; shipped"),
    )
}
