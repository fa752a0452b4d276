"""Check that a path is a regular file; pipes and devices would hang or never end."""

from __future__ import annotations

import stat
from pathlib import Path

from model_zoo.errors import DamagedFileError

_IRREGULAR_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# Largest text file that is read, in bytes.
_MAX_TEXT = 64 * 2**20


def check_regular(path: Path, expected: str) -> None:
    """Raise a DamagedFileError, which says what was `expected`, if a file is missing or not regular."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        raise DamagedFileError(path, expected, "a link to nothing" if path.is_symlink() else "no file") from None
    for is_kind, name in _IRREGULAR_KINDS:
        if is_kind(mode):
            raise DamagedFileError(path, expected, name)


def read_text(path: Path, expected: str) -> str:
    """Return the content of a UTF-8 file without its byte order mark; raise a DamagedFileError if it has none."""
    check_regular(path, expected)
    size = path.stat().st_size
    if size > _MAX_TEXT:
        raise DamagedFileError(path, expected, f"{size:,} bytes")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DamagedFileError(path, expected, error.strerror or type(error).__name__) from None
    except UnicodeDecodeError:
        raise DamagedFileError(path, f"{expected}, in UTF-8", "another encoding") from None
    if not text.strip():
        raise DamagedFileError(path, expected, "an empty file")
    return text
