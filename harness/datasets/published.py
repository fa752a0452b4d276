"""Data sets that users download themselves: readers of published archives, with a training split and a test split."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from harness.datasets.base import DatasetInfo, ImageSet, Source
from harness.datasets.reading import Reading
from model_zoo.errors import MissingDataError

TRAIN, TEST = "train", "test"
# Called with the data folder, the split, the number of images (None for all) and the reading.
ReadSplit = Callable[[Path, str, int | None, Reading], ImageSet]


def published(info: DatasetInfo, training_images: int | None, read_split: ReadSplit) -> Source:
    """Return the data set of a test split, whose images may be read with another size and other channels than those of the files."""

    def with_reading(reading: Reading) -> Source:
        name = f"{info.name}{reading.to_text()}"

        def read(data_dir: Path, split: str, n: int | None) -> ImageSet:
            return replace(read_split(data_dir, split, n, reading), name=name)

        return Source(
            replace(info, name=name, kind=replace(info.kind, shape=_shape(info, reading))),
            lambda data_dir, n, download: read(data_dir, TEST, n),
            lambda data_dir, download: read(data_dir, TRAIN, None),
            training_images,
            with_reading,
        )

    return with_reading(Reading())


def _shape(info: DatasetInfo, reading: Reading) -> tuple[int, int, int] | None:
    if info.kind.shape is None:
        return None
    channels, height, width = info.kind.shape
    return reading.channels or channels, reading.resize or height, reading.resize or width


Files = Sequence[str]


def find(name: str, data_dir: Path, folders: Sequence[str], *alternatives: Files) -> list[Path]:
    """Return the paths of the first alternative whose files are all in one of the folders of `data_dir`.

    Raises
    ------
    MissingDataError
        If there are none; the message names the files of the first two alternatives and the folders.
    """
    paths = _first(data_dir, folders, alternatives)
    if paths is not None:
        return paths
    expected = ", or ".join(" and ".join(files) for files in alternatives[:2])
    places = " or ".join(str(data_dir / folder) if folder == "." else folder for folder in sorted(folders))
    raise MissingDataError(f"{name}: no {expected} in {places}: docs/data.md says where to get them")


def has(data_dir: Path, folders: Sequence[str], *alternatives: Files) -> bool:
    """Return whether `find` would find something."""
    return _first(data_dir, folders, alternatives) is not None


def _first(data_dir: Path, folders: Sequence[str], alternatives: Sequence[Files]) -> list[Path] | None:
    for folder in folders:
        for files in alternatives:
            paths = [data_dir / folder / file for file in files]
            if all(path.exists() for path in paths):
                return paths
    return None


def note_changes(path: Path, md5s: Iterable[str]) -> tuple[str, ...]:
    """Return a note if the md5 of a file is none of the published ones, since it then has other images than other people's."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    return () if digest in md5s else (f"{path.name} is not the published file: its md5 is {digest}",)
