"""Reading of documents that anybody may have written: TOML and JSON, checked against a pydantic schema.

Whatever is wrong with a file (bytes, syntax, nesting, names that occur twice, types, ranges) is a DamagedFileError that names the file.
pydantic is imported when it is first needed: `python -m model_zoo.training` reads recipes on machines without it.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from model_zoo.errors import DamagedFileError

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    Schema = TypeVar("Schema", bound=BaseModel)

# Deepest nesting of tables and lists that is read; documents of this project have less than ten levels.
DEEPEST = 100


def read_toml(path: Path, kind: str) -> dict[str, Any]:
    """Read a TOML file; `kind` is what error messages call it.

    Raises
    ------
    DamagedFileError
        If the file is not TOML in UTF-8, or is nested too deeply.
    OSError
        If the file cannot be read.
    """
    try:
        fields = tomllib.loads(path.read_bytes().decode())
        _check_depth(fields)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(path, f"{kind} in TOML", _reason(error)) from None
    return fields


def parse_json(content: bytes, path: Path, kind: str) -> Any:
    """Return the value of a JSON text that comes from the file `path`.

    Raises
    ------
    DamagedFileError
        If it is not JSON in UTF-8, is nested too deeply, or an object has a name twice.
    """
    try:
        value = json.loads(content, object_pairs_hook=_unique)
        _check_depth(value)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(path, f"{kind} in JSON", _reason(error)) from None
    return value


def validated(schema: type[Schema], fields: Mapping[str, Any], path: Path, kind: str) -> Schema:
    """Return the fields of a document as a pydantic model.

    Types are strict: only a list is accepted for a tuple and a whole number for a float.

    Raises
    ------
    DamagedFileError
        If a field is missing, unknown, or of another type or range; the message names the first one.
    """
    from pydantic import ValidationError

    try:
        # Strict validation accepts lists for tuples only if they come from JSON.
        return schema.model_validate_json(json.dumps(fields), strict=True)
    except ValidationError as error:
        raise DamagedFileError(path, kind, first_fault(error)) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise DamagedFileError(path, kind, _reason(error)) from None


def first_fault(error: ValidationError) -> str:
    """Return the location and a description of the first fault that pydantic reports."""
    details = error.errors(include_url=False, include_context=False, include_input=False)[0]
    location = ".".join(map(str, details["loc"]))
    message = details["msg"].removeprefix("Value error, ")
    return f"{location}: {message}" if location else message


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {next(name for name in names if names.count(name) > 1)!r} twice")
    return fields


def _check_depth(value: object) -> None:
    """Raise a RecursionError if tables and lists are nested deeper than `DEEPEST`."""
    level: list[object] = [value]
    for _ in range(DEEPEST):
        level = [item for part in level if isinstance(part, (dict, list)) for item in (part.values() if isinstance(part, dict) else part)]
        if not level:
            return
    raise RecursionError


def _reason(error: Exception) -> str:
    return "values nested too deeply" if isinstance(error, RecursionError) else f"{type(error).__name__}: {error}"
