"""JSON in zstd: the form of documents in a packed store."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from model_zoo.documents import parse_json
from model_zoo.errors import DamagedFileError
from model_zoo.files import place

# Longest text that is read, in bytes; a small damaged file could otherwise fill the memory.
LARGEST = 2**30


def file_stamp(path: Path) -> tuple[int, int, int] | None:
    """Return a value that changes when a file is replaced; None if the file does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def read_compressed(path: Path, kind: str, version: int) -> dict[str, Any]:
    """Return the content of a file of one version without its field "schema"; `kind` is what error messages call it.

    Raises
    ------
    DamagedFileError
        If the file cannot be read, is not a JSON object in zstd, or has another version.
    """
    try:
        content = parse_json(pa.input_stream(io.BytesIO(path.read_bytes()), compression="zstd").read(LARGEST), path, kind)
    except (OSError, pa.ArrowException, ValueError, MemoryError) as error:
        raise DamagedFileError(path, kind, f"{type(error).__name__}: {error}") from None
    actual = content.pop("schema", None) if isinstance(content, dict) else None
    if type(actual) is not int or actual != version:
        raise DamagedFileError(path, f"{kind} of schema {version}", f"schema {actual}")
    return content


def write_compressed(path: Path, content: Mapping[str, Any], version: int) -> None:
    """Write a JSON object with its version, by atomic rename; the same content gives the same bytes."""
    text = json.dumps({"schema": version, **content}, sort_keys=True, separators=(",", ":")).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    place(path, pa.Codec("zstd", compression_level=19).compress(text, asbytes=True))
