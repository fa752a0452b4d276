"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def place(path: Path, content: bytes) -> None:
    """Write a file under a temporary name beside it and rename it into place; what fails half-way leaves nothing behind."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
