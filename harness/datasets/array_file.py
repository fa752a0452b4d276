"""Users' arrays: `PATH.npz` or `PATH.mat` with images and labels; a `classes.txt` in the same folder has the names of the classes."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from harness.datasets.base import DataKind, DatasetInfo, ImageSet, Source
from harness.datasets.class_list import find_class_list, read_class_list
from harness.datasets.folder import printable
from harness.datasets.reading import Reading, split_reading
from harness.datasets.regular import check_regular
from model_zoo.errors import DamagedFileError, MissingDataError, UsageError

SUFFIXES = (".npz", ".mat")


def array_file_source(text: str) -> Source:
    """Return the data set of `PATH`, or of PATH with options (see `harness.datasets.reading`).

    Its name is that of the file, without its ending, and the beginning of a hash of the images as they are read, so that it does not depend
    on the path or on how the file is compressed.

    Raises
    ------
    UsageError
        If an option is not valid, or the file is neither .npz nor .mat.
    DamagedFileError
        As `npz.read_npz`, `mat.read_mat` and the functions of `pixels` raise it.
    """
    path_text, reading = split_reading(text)
    path = Path(path_text).expanduser()
    name, images = f"file:{printable(path.stem)}", None
    if path.exists() or path.is_symlink():
        images = _load(path, reading)
        name = images.name

    def read(data_folder: Path, n: int | None, download: bool) -> ImageSet:
        if images is None:
            raise MissingDataError(f"{path} does not exist: expected a .npz or .mat file with images and labels")
        return _with_order_note(images, n)

    size = None if images is None else len(images)
    return Source(DatasetInfo(name, f"images in {path}", DataKind(name), size, lambda data_folder: path.is_file(), f"no file {path}"), read)


def _load(path: Path, reading: Reading) -> ImageSet:
    check_regular(path, "a .npz or .mat file")
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: expected a .npz or .mat file with images and labels (a folder of pictures is folder:PATH)")
    listing = find_class_list(path.parent)
    key = tuple(None if file is None else (file.stat().st_size, file.stat().st_mtime_ns) for file in (path, listing))
    return _read_file(path, listing, reading, key)


@lru_cache(maxsize=1)
def _read_file(path: Path, listing: Path | None, reading: Reading, key: object) -> ImageSet:
    """Read a file; `key` changes if the file or its class list does."""
    from harness.datasets import mat, npz, pixels

    class_names = None if listing is None else read_class_list(listing)
    notes: tuple[str, ...] = ()
    try:
        if path.suffix.lower() == ".mat":
            images, labels = mat.read_mat(path)
            labels, has_digits = mat.to_digits(path, labels, class_names)
            notes += ("its label 10 is read as digit 0, as in SVHN",) if has_digits else ()
            class_names = class_names or (tuple(map(str, range(mat.DIGITS))) if has_digits else None)
        else:
            images, labels = npz.read_npz(path)
            images = pixels.to_channels_last(path, images)
        labels, count = pixels.to_labels(path, labels, len(images), None if class_names is None else len(class_names))
        images, scaling_notes = pixels.to_bytes(path, images)
        images = reading.apply(path, images)
    except MemoryError:
        raise DamagedFileError(path, "arrays that fit into memory", "larger ones") from None
    if listing is not None:
        notes += (f"its class names are from {listing.name} in the same folder",)
    read = ImageSet("", images, labels, np.arange(len(images)), class_names or tuple(map(str, range(count))), (*notes, *scaling_notes))
    for array in (read.images, read.labels, read.index):
        # All callers share these arrays.
        array.flags.writeable = False
    name = f"file:{printable(path.stem)}-{read.sha256[:8]}"
    return ImageSet(name, read.images, read.labels, read.index, read.classes, read.notes)


def _with_order_note(images: ImageSet, n: int | None) -> ImageSet:
    """Return the images with a note if they are sorted by class and the first n lack classes."""
    present, all_present = len(set(images.labels[:n].tolist())), len(set(images.labels.tolist()))
    if n is None or present == all_present or (np.diff(images.labels) < 0).any():
        return images
    note = f"it is sorted by class: its first {n} images are of {present} of {all_present} classes"
    return ImageSet(images.name, images.images, images.labels, images.index, images.classes, (*images.notes, note))
