"""ImageNet-100: validation images of 100 ImageNet classes, shorter side resized to 256, central 224 x 224.

Images are read from `DATA_DIR/imagenet100/val/CLASS/FILE` (or `DATA_DIR/imagenet100/CLASS/FILE`); classes are the sorted folder names, or
the lines of `DATA_DIR/imagenet100/classes.txt` in their order. ImageNet's licence forbids redistribution, so the images are never
downloaded.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from harness.datasets.base import DataKind, DatasetInfo, ImageSet, Source
from harness.datasets.class_list import read_class_list
from harness.datasets.read_files import read_tree
from harness.datasets.tree import list_tree
from model_zoo.errors import DamagedFileError, MissingDataError

if TYPE_CHECKING:
    from PIL.Image import Image

RESIZE, CROP, CLASSES = 256, 224, 100
KIND = DataKind("imagenet100", CLASSES, (3, CROP, CROP), {"Linf": Fraction(2, 255)}, "imagenet", "imagenet100")
WHERE = "put the images in DATA_DIR/imagenet100/val/CLASS/FILE and name DATA_DIR with --data-dir or HARNESS_DATA_DIR"


def resize_and_crop(picture: Image) -> Image:
    """Resize the shorter side to 256 (bilinear, antialiased) and crop the central 224 x 224, with torchvision's rounding."""
    from PIL.Image import Resampling

    width, height = picture.size
    short, long = sorted((width, height))
    scaled = int(RESIZE * long / short)
    resized = picture.resize((RESIZE, scaled) if width <= height else (scaled, RESIZE), Resampling.BILINEAR)
    left, top = round((resized.width - CROP) / 2.0), round((resized.height - CROP) / 2.0)
    return resized.crop((left, top, left + CROP, top + CROP))


def _find_root(data_dir: Path) -> Path | None:
    if not (data_dir / "imagenet100").is_dir():
        return None
    root = data_dir / "imagenet100"
    return root / "val" if (root / "val").is_dir() else root


def read(data_dir: Path, n: int | None = None, download: bool = False) -> ImageSet:
    """Return the first n validation images (all if n is None), one of each class first; arguments and errors as in `datasets.load`."""
    root = _find_root(data_dir)
    if root is None:
        raise MissingDataError(f"imagenet100 is not on this machine: {WHERE}")
    listing = data_dir / "imagenet100" / "classes.txt"
    classes = read_class_list(listing) if listing.is_file() else None
    tree = list_tree(root, classes)
    if len(tree.classes) != CLASSES:
        raise DamagedFileError(listing if classes else root, f"{CLASSES} classes", str(len(tree.classes)))
    return read_tree("imagenet100", tree, n, resize_and_crop)


SOURCES = {
    "imagenet100": Source(
        DatasetInfo(
            "imagenet100",
            "ImageNet-100 validation images, 224 x 224",
            KIND,
            None,
            lambda data_dir: _find_root(data_dir) is not None,
            WHERE,
        ),
        read,
    )
}
