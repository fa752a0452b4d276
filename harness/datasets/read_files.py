"""Decoding of the files of an image tree to one array."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from harness.datasets.base import ImageSet
from harness.datasets.decode import decode
from harness.datasets.tree import Tree
from model_zoo.errors import DamagedFileError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image


def read_tree(name: str, tree: Tree, n: int | None, transform: Callable[[Image], Image], channels: int = 3) -> ImageSet:
    """Decode the first n images (all if n is None) with 1 or 3 channels through `transform`; the results must have one size.

    Raises
    ------
    UsageError
        If there are fewer than n images.
    DamagedFileError
        If a file is not an image (see `decode`) or has another size; the error names the first one.
    """
    files = tree.files[:n]
    if n is not None and n > len(files):
        raise UsageError(f"{name} has {len(files)} images: n must be from 1 to {len(files)}, not {n}")
    images = np.empty((0, 0, 0, channels), np.uint8)
    changed: Counter[str] = Counter()
    for position, path in enumerate(files):
        picture = decode(path, transform, channels)
        changed.update(picture.changes)
        image = picture.pixels
        if position == 0:
            # Filled in place, because a list and then an array of it would need the memory twice.
            images = _allocate(name, (len(files), *image.shape))
        if image.shape != images.shape[1:]:
            (height, width), (first_height, first_width) = image.shape[:2], images.shape[1:3]
            actual = f"{width} x {height} (use --resize)"
            raise DamagedFileError(path, f"{first_width} x {first_height} pixels like the others", actual)
        images[position] = image
    notes = (*tree.notes, *(f"{count} image{'s' * (count > 1)} {change}" for change, count in changed.items()))
    return ImageSet(name, images, np.array(tree.labels[:n], np.int64), np.arange(len(files)), tree.classes, notes)


def _allocate(name: str, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return np.empty(shape, np.uint8)
    except MemoryError:
        raise UsageError(f"{name}: not enough memory for {' x '.join(map(str, shape))} bytes: use fewer images, or --resize") from None
