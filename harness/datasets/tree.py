"""Image trees with a folder a class: which files there are, in an order whose beginning is balanced, and how they are decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.datasets.base import ImageSet
from model_zoo.errors import DamagedFileError, MissingDataError

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

    Raises
    ------
    MissingDataError
        If a class has no folder, or there are no images.
    """
    if not root.is_dir():
        raise MissingDataError(f"no folder {root}: a tree of images with a folder a class is expected there")
    names = tuple(classes) if classes is not None else tuple(sorted(path.name for path in root.iterdir() if path.is_dir()))
    absent = [name for name in names if not (root / name).is_dir()]
    if absent:
        raise MissingDataError(f"{root}: no folder for class {absent[0]!r}")
    members = [sorted(path for path in (root / name).rglob("*") if path.suffix.lower() in SUFFIXES) for name in names]
    if not any(members):
        raise MissingDataError(f"{root}: no images (a folder a class, files {', '.join(sorted(SUFFIXES))})")
    rounds = zip_longest(*members)
    entries = [(path, label) for turn in rounds for label, path in enumerate(turn) if path is not None]
    return Tree([path for path, _ in entries], [label for _, label in entries], names)


def read_tree(name: str, tree: Tree, n: int | None, transform: Callable[[Image], Image]) -> ImageSet:
    """Decode the first n images (all where None) as RGB through `transform`; all must come out of one size.

    Raises
    ------
    DamagedFileError
        Naming the first file that is no image or of another size.
    """
    from PIL import Image as Pillow

    files = tree.files[:n]
    images: list[np.ndarray] = []
    for path in files:
        try:
            with Pillow.open(path) as picture:
                images.append(np.asarray(transform(picture.convert("RGB"))))
        except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError) as error:
            raise DamagedFileError(path, "an image", str(error).splitlines()[0] if str(error) else type(error).__name__) from None
        if images[-1].shape != images[0].shape:
            (height, width), (first_height, first_width) = images[-1].shape[:2], images[0].shape[:2]
            raise DamagedFileError(path, f"{first_width} x {first_height} pixels like the others", f"{width} x {height}")
    return ImageSet(name, np.stack(images), np.array(tree.labels[:n], np.int64), np.arange(len(files)), tree.classes)
