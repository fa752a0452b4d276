"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def placing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to, renamed into place at the end; what fails half-way leaves nothing behind."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def place(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with placing(path) as temporary:
        temporary.write_bytes(content)
