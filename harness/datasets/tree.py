"""Image trees with one folder per class: listing their files in an order that is balanced from the start, and decoding them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.datasets.base import ImageSet
from harness.datasets.decode import decode
from model_zoo.errors import DamagedFileError, MissingDataError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".pbm", ".pgm", ".ppm", ".pnm", ".tga", ".tif", ".tiff"}
# Files and folders that archives and file managers leave behind.
LITTER = {"__MACOSX", "Thumbs.db", "desktop.ini"}
# Names of folders that are parts of a data set, not classes.
PARTS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}


@dataclass(frozen=True)
class Tree:
    """Files with their `labels`, in order: the first file of every class, then the second of every class, and so on.

    `notes` are one sentence each on skipped files, classes without images, and an order of classes that is not that of their names.
    """

    files: Sequence[Path]
    labels: Sequence[int]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def list_tree(root: Path, classes: Sequence[str] | None = None) -> Tree:
    """List the images of `root`/CLASS/FILE.

    The classes are `classes`, in that order, or by default the sorted folder names (sorted as numbers if all are numbers). Names that begin
    with a dot, and what archives leave behind, are skipped.

    Raises
    ------
    MissingDataError
        If `root` or the folder of a class is missing, or there are no images.
    UsageError
        If the folders look like parts of a data set ("train", "val"), or like one folder of classes, instead of classes.
    """
    if not root.is_dir():
        raise MissingDataError(f"no folder {root}: a tree of images with a folder a class is expected there")
    folders = sorted(path.name for path in root.iterdir() if path.is_dir() and not _is_litter(path.name))
    notes = []
    if classes is None:
        _refuse_parts(root, folders)
        if folders and all(name.isdecimal() for name in folders):
            folders = sorted(folders, key=lambda name: (int(name), name))
            if folders != sorted(folders):
                notes.append(f"its classes are in the order of their numbers: {', '.join(folders[:3])}, ..., {folders[-1]}")
    names = tuple(folders if classes is None else classes)
    absent = [name for name in names if not (root / name).is_dir()]
    if absent:
        raise MissingDataError(f"{root}: no folder for class {absent[0]!r}")
    listings = [_list_images(root / name) for name in names]
    members = [images for images, _ in listings]
    if not any(members):
        raise MissingDataError(f"{root}: no images (a folder a class, files {', '.join(sorted(SUFFIXES))})")
    skipped_suffixes = [suffix for _, suffixes in listings for suffix in suffixes]
    if skipped_suffixes:
        endings = ", ".join(sorted(set(skipped_suffixes)))
        notes.append(
            f"{len(skipped_suffixes)} file{'s' * (len(skipped_suffixes) > 1)} passed over that are no images by their ending: {endings}"
        )
    empty = [name for name, images in zip(names, members, strict=True) if not images]
    if empty:
        notes.append(f"no images of {len(empty)} of its {len(names)} classes: {', '.join(empty[:5])}{', ...' * (len(empty) > 5)}")
    rounds = zip_longest(*members)
    entries = [(path, label) for round_paths in rounds for label, path in enumerate(round_paths) if path is not None]
    return Tree([path for path, _ in entries], [label for _, label in entries], names, tuple(notes))


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name in LITTER


def _refuse_parts(root: Path, folders: Sequence[str]) -> None:
    """Refuse folders whose subfolders are the classes."""
    subfolders = {name: [path.name for path in (root / name).iterdir() if path.is_dir() and not _is_litter(path.name)] for name in folders}
    parts = [name for name in folders if name.lower() in PARTS and subfolders[name]]
    if parts:
        finding = f"{', '.join(parts)} look like parts of a data set, not classes"
        raise UsageError(f"{root}: {finding}: name one of them, folder:{root / parts[-1]}")
    only_folder = root / folders[0] if len(folders) == 1 else None
    if (
        only_folder is not None
        and len(subfolders[only_folder.name]) > 1
        and not any(path.suffix.lower() in SUFFIXES for path in only_folder.iterdir())
    ):
        raise UsageError(f"{root}: its only class would be {only_folder.name}: are the classes one folder deeper, folder:{only_folder}?")


def _list_images(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the image files at any depth, sorted by their path with `/` (the same on every system), and the endings of all other files."""
    images, other_suffixes = {}, []
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if any(_is_litter(part) for part in name.split("/")) or path.is_dir():
            continue
        if path.suffix.lower() in SUFFIXES:
            images[name] = path
        else:
            other_suffixes.append(path.suffix.lower() or "none")
    return [images[name] for name in sorted(images)], other_suffixes


def read_tree(name: str, tree: Tree, n: int | None, transform: Callable[[Image], Image]) -> ImageSet:
    """Decode the first n images (all if n is None) as RGB through `transform`; the results must have one size.

    Raises
    ------
    UsageError
        If there are fewer than n images.
    DamagedFileError
        If a file is not an image (see `decode`) or has another size; the error names the first one.
    """
    files = tree.files[:n]
    if n is not None and n > len(files):
        raise UsageError(f"{name} has {len(files)} images: n is between 1 and {len(files)}, not {n}")
    images = np.empty((0, 0, 0, 3), np.uint8)
    changed: Counter[str] = Counter()
    for position, path in enumerate(files):
        picture = decode(path, transform)
        changed.update(picture.changes)
        image = picture.pixels
        if position == 0:
            # Filled in place, because a list and then an array of it would need the memory twice.
            images = np.empty((len(files), *image.shape), np.uint8)
        if image.shape != images.shape[1:]:
            (height, width), (first_height, first_width) = image.shape[:2], images.shape[1:3]
            actual = f"{width} x {height} (--resize brings all to one size)"
            raise DamagedFileError(path, f"{first_width} x {first_height} pixels like the others", actual)
        images[position] = image
    notes = (*tree.notes, *(f"{count} image{'s' * (count > 1)} {change}" for change, count in changed.items()))
    return ImageSet(name, images, np.array(tree.labels[:n], np.int64), np.arange(len(files)), tree.classes, notes)
