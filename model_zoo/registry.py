"""The registry: records found by id in this package, or read from a path. Light: no model is loaded here."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from pydantic import ValidationError

from model_zoo.errors import DamagedFileError, UnknownNameError, UsageError
from model_zoo.schema import Record

LISTING = "harness ls models"


def package_folder(name: str) -> Path:
    """A data folder of the installed package ("records", "checkpoints", "recipes")."""
    return Path(__file__).parent / name


@cache
def _shipped() -> dict[str, Path]:
    return {path.stem: path for path in sorted(package_folder("records").glob("*.toml"))}


def model_ids() -> list[str]:
    """Ids of the models that ship, sorted."""
    return list(_shipped())


def read_record(path: Path) -> Record:
    """Read and check one record file.

    Raises
    ------
    DamagedFileError
        If the file is not TOML or its fields are not those of a record, naming the field.
    """
    try:
        record = Record.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DamagedFileError(path, "a model record in TOML", str(error)) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DamagedFileError(path, "a model record", f"{where}: {first['msg']}" if where else first["msg"]) from None
    if record.id != path.stem:
        raise DamagedFileError(path, f"the record of {path.stem!r}", f"that of {record.id!r}")
    return record


def record_path(model: str) -> Path:
    """The record file of a shipped id, or the path itself where `model` is one ending in .toml."""
    if model.endswith(".toml"):
        path = Path(model)
        if not path.is_file():
            raise UsageError(f"no record file {model}")
        return path
    shipped = _shipped()
    if model not in shipped:
        raise UnknownNameError("model", model, shipped, LISTING)
    return shipped[model]


def get_record(model: str) -> Record:
    """The record of a model id or record path; an UnknownNameError with the near miss otherwise."""
    return read_record(record_path(model))


def absence(model: str) -> str | None:
    """Why the checkpoint of a registered model is not here, and how to get it; None if it is here or should be.

    Anything but the id of a model that ships its outcomes alone has no such reason.
    """
    if model not in _shipped():
        return None
    record = get_record(model)
    if record.ships or checkpoint_path(model).is_file():
        return None
    size = f"{record.checkpoint.bytes / 2**20:.0f} MiB"
    return f"model {model}: outcomes only, its file of {size} does not ship; `harness train {record.recipe}` makes it anew"


def absences(models: Iterable[str]) -> dict[str, str]:
    """The reasons of `absence` by model, for those that have one; every record is read once."""
    reasons = {model: absence(model) for model in dict.fromkeys(models)}
    return {model: reason for model, reason in reasons.items() if reason is not None}


def checkpoint_path(model: str) -> Path:
    """Where the packed file of a model is: the package's checkpoint folder, or beside a record given by path."""
    path = record_path(model)
    record = read_record(path)
    folder = package_folder("checkpoints") if path.parent == package_folder("records") else path.parent
    return folder / record.checkpoint.file
