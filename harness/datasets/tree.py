"""Image trees: listing the files of a folder per class, or of a table of labels, in an order that is balanced from the start."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from harness.datasets.class_list import CLASS_LIST
from harness.datasets.label_table import LABEL_TABLE, read_label_table
from harness.datasets.text_labels import index_labels
from model_zoo.errors import MissingDataError, UsageError

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
        If `root` or the folder of a class is missing or cannot be read, or there are no images.
    UsageError
        If the folders look like parts of a data set ("train", "val"), or like one folder of classes, instead of classes, or if a name is
        not printable.
    """
    folders, loose_files = _list_entries(root)
    notes = []
    if classes is None:
        _refuse_parts(root, folders)
        if folders and all(name.isdecimal() for name in folders):
            folders = sorted(folders, key=lambda name: (int(name), name))
            if folders != sorted(folders):
                notes.append(f"its classes are in the order of their numbers: {', '.join(folders[:3])}, ..., {folders[-1]}")
    elif unlisted := [name for name in folders if name not in classes]:
        notes.append(f"{_count(len(unlisted), 'folder')} skipped that {CLASS_LIST} does not list: {_some(unlisted)}")
    names = tuple(folders if classes is None else classes)
    absent = [name for name in names if name not in folders]
    if absent:
        raise MissingDataError(f"{root}: no folder for class {absent[0]!r}")
    listings = [_list_images(root / name) for name in names]
    members = [[root / name / path for path in images] for name, (images, _) in zip(names, listings, strict=True)]
    pictures = [name for name in loose_files if _is_image(name)]
    if not any(members):
        hint = f"{_count(len(pictures), 'picture')} without class folders and without {LABEL_TABLE}; " if pictures else ""
        raise MissingDataError(f"{root}: no images ({hint}expected one folder per class, files {', '.join(sorted(SUFFIXES))})")
    if pictures:
        notes.append(f"{_count(len(pictures), 'picture')} skipped outside the class folders: {_some(pictures)}")
    notes += _note_skipped([suffix for _, suffixes in listings for suffix in suffixes])
    labels = [label for label, paths in enumerate(members) for _ in paths]
    return _balanced([path for paths in members for path in paths], labels, names, notes)


def list_labelled(root: Path, table: Path, classes: Sequence[str] | None = None) -> Tree:
    """List the images of `root`, at any depth, that a table of labels names; `classes` are the names of a class list.

    Raises
    ------
    MissingDataError
        If `root` is missing or cannot be read.
    DamagedFileError
        As `read_label_table` and `index_labels` raise it.
    """
    _list_entries(root)
    images, skipped_suffixes = _list_images(root, {LABEL_TABLE, CLASS_LIST})
    names, texts = read_label_table(table, set(images))
    labels, class_names = index_labels(table, texts, classes)
    notes = [f"its labels are those of {LABEL_TABLE}"]
    if len(names) < len(images):
        notes.append(f"{_count(len(images) - len(names), 'picture')} skipped that {LABEL_TABLE} does not list")
    notes += _note_skipped(skipped_suffixes)
    return _balanced([root / name for name in names], labels, class_names, notes)


def _balanced(files: Sequence[Path], labels: Sequence[int], classes: tuple[str, ...], notes: Sequence[str]) -> Tree:
    """Return the tree of labelled files: the first of every class, then the second of every class, and so on."""
    members: list[list[Path]] = [[] for _ in classes]
    for path, label in zip(files, labels, strict=True):
        members[label].append(path)
    empty = [name for name, paths in zip(classes, members, strict=True) if not paths]
    if empty:
        notes = (*notes, f"no images of {len(empty)} of its {len(classes)} classes: {_some(empty)}")
    rounds = zip_longest(*members)
    entries = [(path, label) for round_paths in rounds for label, path in enumerate(round_paths) if path is not None]
    return Tree([path for path, _ in entries], [label for _, label in entries], classes, tuple(notes))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number > 1)}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + ", ..." * (len(names) > 5)


def _note_skipped(suffixes: Sequence[str]) -> list[str]:
    if not suffixes:
        return []
    return [f"{_count(len(suffixes), 'file')} skipped, since their suffixes are not those of images: {', '.join(sorted(set(suffixes)))}"]


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name in LITTER


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _list_entries(root: Path) -> tuple[list[str], list[str]]:
    """Return the sorted names of the folders and of the files in a folder, without litter."""
    if not root.is_dir():
        raise MissingDataError(f"no folder {root}: expected images in one folder per class")
    try:
        entries = [entry for entry in os.scandir(root) if not _is_litter(entry.name)]
        folders = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError as error:
        raise MissingDataError(f"{error.filename or root} cannot be read: {error.strerror or error}") from None
    for name in folders:
        if not name.isprintable():
            raise UsageError(f"{root}: the name of folder {name!r} cannot be printed as text: rename it")
        if (root / name).is_symlink() and (root / name).resolve() in (root.resolve(), *root.resolve().parents):
            raise UsageError(f"{root}: folder {name!r} is a link to a folder that contains it")
    return folders, sorted(entry.name for entry in entries if entry.name not in folders)


def _refuse_parts(root: Path, folders: Sequence[str]) -> None:
    """Refuse folders whose subfolders are the classes."""
    subfolders = {name: _list_entries(root / name)[0] for name in folders if name.lower() in PARTS or len(folders) == 1}
    parts = [name for name in folders if name.lower() in PARTS and subfolders[name]]
    if parts:
        finding = f"{', '.join(parts)} look like parts of a data set, not classes"
        raise UsageError(f"{root}: {finding}: name one of them, folder:{root / parts[-1]}")
    only_folder = root / folders[0] if len(folders) == 1 else None
    if only_folder is not None and len(subfolders[only_folder.name]) > 1 and not any(map(_is_image, _list_entries(only_folder)[1])):
        raise UsageError(f"{root}: its only class would be {only_folder.name}: are the classes one folder deeper, folder:{only_folder}?")


def _list_images(folder: Path, ignored: Collection[str] = ()) -> tuple[list[str], list[str]]:
    """Return the image files at any depth, relative with `/` and sorted (the same on every system), and the endings of all other files.

    Links to folders are not followed; they count as other files.
    """

    def refuse(error: OSError) -> None:
        raise MissingDataError(f"{error.filename} cannot be read: {error.strerror or error}")

    images, other_suffixes = [], []
    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not _is_litter(name)]
        other_suffixes += ["link to a folder" for name in folders if (Path(parent) / name).is_symlink()]
        for name in files:
            path = (Path(parent) / name).relative_to(folder)
            if _is_litter(name) or path.as_posix() in ignored:
                continue
            if _is_image(name):
                images.append(path.as_posix())
            else:
                other_suffixes.append(path.suffix.lower() or "none")
    return sorted(images), other_suffixes
