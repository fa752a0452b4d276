"""Users' pictures: `folder:PATH` is a folder per class, or pictures with `labels.csv`; `classes.txt` gives names and order of classes."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from harness.datasets.base import DataKind, DatasetInfo, ImageSet, Source
from harness.datasets.class_list import find_class_list, read_class_list
from harness.datasets.label_table import find_label_table
from harness.datasets.read_files import read_tree
from harness.datasets.reading import split_reading
from harness.datasets.tree import Tree, list_labelled, list_tree
from model_zoo.errors import MissingDataError

# Maximum number of files, spread over the folder, whose content enters its name; of the others only the path and the size do.
READ = 1000


def folder_source(text: str) -> Source:
    """Return the data set of `PATH`, or of PATH with options (see `harness.datasets.reading`); no image is decoded yet.

    Its name is that of the folder and the beginning of a hash of its images, without the path: results stay valid if the folder is moved,
    and two folders with the same name are two data sets.

    Raises
    ------
    UsageError
        If an option is not valid.
    """
    path, reading = split_reading(text)
    root = Path(path).expanduser()
    name = f"folder:{printable(root.resolve().name)}"
    count = None
    if root.is_dir():
        digest, count = _hash_content(root)
        name += f"-{digest[:8]}"
    if reading.resize is not None:
        name += f"-{reading.resize}px"
    if reading.channels == 1:
        name += "-grey"

    def read(data_folder: Path, n: int | None, download: bool) -> ImageSet:
        return read_tree(name, list_folder(root), n, reading.resized, reading.channels or 3)

    info = DatasetInfo(name, f"images in {root}", DataKind(name), count, lambda data_folder: root.is_dir(), f"{root} is not a folder")
    return Source(info, read)


def printable(name: str) -> str:
    """Return a name with hyphens in place of characters that cannot be printed."""
    return "".join(character if character.isprintable() else "-" for character in name)


def list_folder(root: Path) -> Tree:
    """List the images of a user's folder; raises the errors of `list_tree`, `list_labelled` and `read_class_list`."""
    listing, table = find_class_list(root), find_label_table(root)
    classes = None if listing is None else read_class_list(listing)
    return list_tree(root, classes) if table is None else list_labelled(root, table, classes)


def _hash_content(root: Path) -> tuple[str, int]:
    """Return a hash of the paths and sizes of all images and of the content of up to `READ` of them, and the number of images.

    Labels and classes are included if they are not those of the paths.
    """
    tree = list_folder(root)
    labels = {path.relative_to(root).as_posix(): label for path, label in zip(tree.files, tree.labels, strict=True)}
    try:
        entries = tuple((path, (root / path).stat().st_size, (root / path).stat().st_mtime_ns) for path in sorted(labels))
        listed = find_class_list(root) is not None or find_label_table(root) is not None
        extra = f"{[labels[path] for path in sorted(labels)]} {tree.classes}" if listed else ""
        return _hash_files(root, entries, extra), len(entries)
    except OSError as error:
        raise MissingDataError(f"{error.filename} cannot be read: {error.strerror or error}") from None


@lru_cache(maxsize=8)
def _hash_files(root: Path, files: tuple[tuple[str, int, int], ...], extra: str) -> str:
    digest = hashlib.sha256()
    step = -(-len(files) // READ)
    for position, (path, size, _) in enumerate(files):
        digest.update(os.fsencode(f"{path} {size}\n"))
        if position % step == 0 and (root / path).is_file():
            digest.update(hashlib.sha256((root / path).read_bytes()).digest())
    digest.update(extra.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
