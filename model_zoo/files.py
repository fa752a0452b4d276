"""Atomic writing of files: a file appears completely or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def placing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, which is renamed to `path` at the end, or deleted if the block raises."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def place(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    with placing(path) as temporary:
        temporary.write_bytes(content)
