"""Data sets by name. Each module of this package may list some in `SOURCES`; see `model_zoo.plugins` for how others are added."""

from __future__ import annotations

import os
from pathlib import Path

from harness.datasets.base import DataKind, DatasetInfo, ImageSet, Source
from harness.datasets.reading import Reading, split_reading
from harness.plugins import DATASETS
from model_zoo.errors import MissingDataError, UsageError

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
    "load_training",
    "names",
    "present",
    "sample_of",
    "training_size",
    "with_reading",
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
    known_name, reading = split_reading(name)
    source = DATASETS.get(known_name)
    if reading == Reading():
        return source
    if source.read_as is None:
        raise UsageError(f"{known_name} is read as it is: {_scope_of_readings('a size or channels')}")
    return source.read_as(reading)


def with_reading(name: str | None, reading: Reading, option: str) -> str:
    """Return the name of a data set that is read with a size and channels; a UsageError names the option if it cannot be."""
    if name is None or not (is_user_data(name) or DATASETS.get(split_reading(name)[0]).read_as is not None):
        raise UsageError(_scope_of_readings(option))
    return f"{name}{reading.to_text()}"


def _scope_of_readings(option: str) -> str:
    readable = ", ".join(name for name, source in DATASETS.items() if source.read_as is not None)
    return f"{option} applies only to your own images (folder:PATH, PATH.npz, PATH.mat) and to {readable}"


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
    """Return the data set that is used if a few images of a kind ("mnist", "mnist?resize=32") are needed; UsageError if there is none."""
    known, (name, reading) = kinds(), split_reading(kind)
    if name not in known:
        raise UsageError(f"no registered data of kind {name!r}, only of {', '.join(known)}: name images of your own with --dataset")
    return f"{known[name].sample or name}{reading.to_text()}"


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
        name: "folder:PATH?resize=32&channels=1" reads grey images and resizes them to 32 x 32, as does "mnist?resize=32".
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


def load_training(name: str, data_dir: Path | None = None, download: bool = False) -> ImageSet:
    """Return the training split of a data set, or all its images if it has none; parameters and errors as of `load`."""
    source = _get_source(name)
    if source.read_training is not None:
        return source.read_training(data_folder(data_dir), download)
    return source.read(data_folder(data_dir), None, download)


def training_size(name: str) -> int:
    """Return the number of images that `load_training` returns, without reading them; MissingDataError if it depends on the files."""
    source = _get_source(name)
    size = source.info.size if source.read_training is None else source.training_images
    if size is None:
        raise MissingDataError(f"the number of images of {name} is known only after reading it")
    return size
