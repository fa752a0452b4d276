"""Data sets by name. Each module of this package may list some in `SOURCES`; see `model_zoo.plugins` for how others are added."""

from __future__ import annotations

import os
from pathlib import Path

from harness.datasets.base import DataKind, DatasetInfo, ImageSet, Source
from harness.datasets.reading import split_reading
from harness.plugins import DATASETS
from model_zoo.errors import UsageError

__all__ = [
    "DataKind",
    "DatasetInfo",
    "ImageSet",
    "data_folder",
    "describe",
    "family_of",
    "is_user_data",
    "kinds",
    "load",
    "names",
    "present",
    "sample_of",
]

# Prefixes of the names of a user's folder, folder:PATH, and of a user's file of arrays; the second may be left out before a path.
FOLDER, FILE = "folder:", "file:"


def _get_source(name: str) -> Source:
    if name.startswith(FOLDER):
        from harness.datasets.folder import folder_source

        return folder_source(name.removeprefix(FOLDER))
    if is_user_data(name):
        from harness.datasets.array_file import array_file_source

        return array_file_source(name.removeprefix(FILE))
    return DATASETS.get(name)


def is_user_data(name: str) -> bool:
    """Return whether a name is one of users' images, `folder:PATH`, `file:PATH`, `PATH.npz` or `PATH.mat`, which no registry contains."""
    return name.startswith((FOLDER, FILE)) or split_reading(name)[0].lower().endswith((".npz", ".mat"))


def data_folder(data_dir: Path | None = None) -> Path:
    """Return the folder of data that does not ship: `data_dir`, else HARNESS_DATA_DIR, else the user's cache, where downloads go."""
    if data_dir is not None:
        return data_dir
    configured = os.environ.get("HARNESS_DATA_DIR")
    if configured:
        return Path(configured)
    import pooch

    return Path(pooch.os_cache("robust-binary-harness"))


def names() -> list[str]:
    """Return the names of the data sets, sorted; `folder:PATH`, `PATH.npz` and `PATH.mat` are valid names too."""
    return DATASETS.names()


def describe(name: str) -> DatasetInfo:
    """Return the description of a data set without loading it; UnknownNameError, with a suggestion, for an unknown name."""
    return _get_source(name).info


def kinds() -> dict[str, DataKind]:
    """Return the kinds of all data sets that `names` lists, by name."""
    return {source.info.kind.name: source.info.kind for _, source in DATASETS.items()}


def sample_of(kind: str) -> str:
    """Return the data set that is used if a few images of a kind are needed; UsageError if no data set is of that kind."""
    known = kinds()
    if kind not in known:
        raise UsageError(f"no registered data of kind {kind!r}, only of {', '.join(known)}: name images of your own with --dataset")
    return known[kind].sample or kind


def family_of(training_data: str) -> str:
    """Return the family of images that a model was trained on, given the name in its record: that of the data set of this name, if any."""
    return describe(training_data).family if training_data in names() else training_data


def present(name: str, data_dir: Path | None = None) -> bool:
    """Return whether a data set is on this machine; see `data_folder`."""
    return _get_source(name).info.present(data_folder(data_dir))


def load(name: str, data_dir: Path | None = None, n: int | None = None, download: bool = False) -> ImageSet:
    """Load a data set, or the first n of its images.

    Parameters
    ----------
    name : str
        A name that `names` lists, "folder:PATH" for pictures, or "PATH.npz" or "PATH.mat" for arrays (docs/data.md). Options follow the
        path: "folder:PATH?resize=32&channels=1" reads grey images and resizes them to 32 x 32.
    data_dir : Path, optional
        See `data_folder`.
    n : int, optional
        Number of images, from 1 to all of them (default: all).
    download : bool
        Whether missing data may be downloaded.

    Raises
    ------
    UnknownNameError, UsageError
        For an unknown name, or an n that the data set does not have.
    MissingDataError
        If the data is not on this machine.
    DamagedFileError
        If a file's content is not the expected one.
    """
    source = _get_source(name)
    if n is not None and n < 1:
        raise UsageError(f"n must be at least 1, not {n}")
    images = source.read(data_folder(data_dir), n, download)
    return images if n is None else images.first(n)
