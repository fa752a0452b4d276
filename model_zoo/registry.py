"""Registry of model records by id, and reading and writing of record files. No model is loaded, so importing it is cheap."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import tomli_w

from model_zoo.documents import read_toml, validated
from model_zoo.errors import DamagedFileError, UnknownNameError, UserError
from model_zoo.files import place
from model_zoo.plugin_folders import plugin_folders
from model_zoo.schema import Record

LISTING = "harness ls models"


def package_folder(name: str) -> Path:
    """Return the path of a data folder of the installed package ("records", "checkpoints", "recipes", "published")."""
    return Path(__file__).parent / name


@cache
def _shipped() -> dict[str, Path]:
    return {path.stem: path for path in sorted(package_folder("records").glob("*.toml"))}


def _registered() -> dict[str, Path]:
    """Return the record files of shipped models and of those in the folder `models` of plug-in folders, by id."""
    registered = dict(_shipped())
    for folder in plugin_folders():
        for path in sorted((folder / "models").glob("*.toml")):
            if path.stem in registered:
                raise UserError(f"two models are called {path.stem!r}: {registered[path.stem]}, and {path}")
            registered[path.stem] = path
    return registered


def model_ids() -> list[str]:
    """Return the ids of all registered models, sorted: those that ship, and those of plug-in folders."""
    return sorted(_registered())


def read_record(path: Path) -> Record:
    """Read and validate one record file.

    Raises
    ------
    DamagedFileError
        If the file is not TOML, its fields are not those of a record (the message names the field), or its id is not the file's name.
    """
    record = validated(Record, read_toml(path, "a model record"), path, "a model record")
    if record.id != path.stem:
        raise DamagedFileError(path, f"the record of {path.stem!r}", f"that of {record.id!r}")
    return record


def write_record(record: Record, folder: Path, is_new: bool = False) -> Path:
    """Write a record to `<id>.toml` in `folder`, atomically and without fields that are None, and return the path.

    With `is_new`, an existing file raises a FileExistsError.
    """
    path = folder / f"{record.id}.toml"
    place(path, tomli_w.dumps(record.model_dump(exclude_none=True)).encode(), is_new)
    return path


def record_path(model: str) -> Path:
    """Return the path of the record file of an id; raises an UnknownNameError if no registered model has that id."""
    registered = _registered()
    if model not in registered:
        raise UnknownNameError("model", model, registered, LISTING)
    return registered[model]


def get_record(model: str) -> Record:
    """Return the record of an id; raises the errors of `record_path` and `read_record`."""
    return read_record(record_path(model))


def absence(model: str) -> str | None:
    """Return why the checkpoint of a registered model is not on this machine and how to get it, or None.

    Only the id of a model that ships its outcomes without a checkpoint has such a reason; for everything else the result is None.
    """
    if model not in _shipped():
        return None
    path = record_path(model)
    record = read_record(path)
    if record.ships or checkpoint_of(record, path).is_file():
        return None
    size = f"{record.checkpoint.bytes / 2**20:.0f} MiB"
    return f"model {model}: outcomes only, its file of {size} does not ship; `harness train {record.recipe}` trains it again"


def absences(models: Iterable[str]) -> dict[str, str]:
    """Return the reasons of `absence`, keyed by model, for the models that have one; every distinct model is looked up once."""
    reasons = {model: absence(model) for model in dict.fromkeys(models)}
    return {model: reason for model, reason in reasons.items() if reason is not None}


def checkpoint_path(model: str) -> Path:
    """Return the path of the checkpoint of an id; raises the errors of `record_path` and `read_record`."""
    path = record_path(model)
    return checkpoint_of(read_record(path), path)


def checkpoint_of(record: Record, path: Path) -> Path:
    """Return the path of the checkpoint of a record at `path`: in the package's checkpoint folder if it ships, or beside the record."""
    folder = package_folder("checkpoints") if path.parent == package_folder("records") else path.parent
    return folder / record.checkpoint.file
