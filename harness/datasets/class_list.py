"""Class lists: `classes.txt` with one class name per line; the line, counted from 0, is the label."""

from __future__ import annotations

from pathlib import Path

from harness.datasets.regular import read_text
from model_zoo.errors import DamagedFileError

CLASS_LIST = "classes.txt"
_EXPECTED = "one class name per line"


def find_class_list(folder: Path) -> Path | None:
    """Return the path of the class list in a folder; None if there is none."""
    path = folder / CLASS_LIST
    return path if path.exists() or path.is_symlink() else None


def read_class_list(path: Path) -> tuple[str, ...]:
    """Return the names in a class list, without surrounding spaces.

    Raises
    ------
    DamagedFileError
        If the file cannot be read, or a name is repeated, blank or contains control characters.
    """
    lines = read_text(path, _EXPECTED).replace("\r\n", "\n").rstrip().split("\n")
    names = tuple(line.strip() for line in lines)
    numbers: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        if not name:
            raise DamagedFileError(path, _EXPECTED, f"a blank line {number}")
        if not name.isprintable():
            raise DamagedFileError(path, _EXPECTED, f"control characters in line {number}")
        if name in numbers:
            raise DamagedFileError(path, "distinct class names", f"{name[:60]!r} twice, in lines {numbers[name]} and {number}")
        numbers[name] = number
    return names
