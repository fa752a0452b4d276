"""Image trees with a folder a class: which files there are, in an order whose beginning is balanced, and how they are decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.datasets.base import ImageSet
from model_zoo.errors import DamagedFileError, MissingDataError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".tif", ".tiff"}


@dataclass(frozen=True)
class Tree:
    """Files in order: the first of every class, then the second of every class, and so on; `labels` beside them."""

    files: Sequence[Path]
    labels: Sequence[int]
    classes: tuple[str, ...]


def list_tree(root: Path, classes: Sequence[str] | None = None) -> Tree:
    """List the images of `root`/CLASS/FILE; classes are the sorted folder names unless they are given in order.

    Names that begin with a dot are passed over: file managers and notebooks leave them behind.

    Raises
    ------
    MissingDataError
        If a class has no folder, or there are no images.
    """
    if not root.is_dir():
        raise MissingDataError(f"no folder {root}: a tree of images with a folder a class is expected there")
    found = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    names = tuple(found if classes is None else classes)
    absent = [name for name in names if not (root / name).is_dir()]
    if absent:
        raise MissingDataError(f"{root}: no folder for class {absent[0]!r}")
    members = [_images(root / name) for name in names]
    if not any(members):
        raise MissingDataError(f"{root}: no images (a folder a class, files {', '.join(sorted(SUFFIXES))})")
    rounds = zip_longest(*members)
    entries = [(path, label) for turn in rounds for label, path in enumerate(turn) if path is not None]
    return Tree([path for path, _ in entries], [label for _, label in entries], names)


def _images(folder: Path) -> list[Path]:
    """Image files at any depth, by their path with `/`, so that every system gives the same order."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES}
    return [found[name] for name in sorted(found) if not any(part.startswith(".") for part in name.split("/"))]


def read_tree(name: str, tree: Tree, n: int | None, transform: Callable[[Image], Image]) -> ImageSet:
    """Decode the first n images (all where None) as RGB through `transform`; all must come out of one size.

    Raises
    ------
    UsageError
        If there are not so many images.
    DamagedFileError
        Naming the first file that is no image or of another size.
    """
    from PIL import Image as Pillow

    files = tree.files[:n]
    if n is not None and n > len(files):
        raise UsageError(f"{name} has {len(files)} images: n is between 1 and {len(files)}, not {n}")
    images = np.empty((0, 0, 0, 3), np.uint8)
    for position, path in enumerate(files):
        try:
            with Pillow.open(path) as picture:
                image = np.asarray(transform(picture.convert("RGB")))
        except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError) as error:
            raise DamagedFileError(path, "an image", str(error).splitlines()[0] if str(error) else type(error).__name__) from None
        if position == 0:
            # Filled in place: a list and then an array of it would need the memory twice.
            images = np.empty((len(files), *image.shape), np.uint8)
        if image.shape != images.shape[1:]:
            (height, width), (first_height, first_width) = image.shape[:2], images.shape[1:3]
            raise DamagedFileError(path, f"{first_width} x {first_height} pixels like the others", f"{width} x {height}")
        images[position] = image
    return ImageSet(name, images, np.array(tree.labels[:n], np.int64), np.arange(len(files)), tree.classes)
