"""Pictures with a table of labels: `labels.csv` in their folder, one row per picture with its file name and its label."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from harness.datasets.regular import read_text
from model_zoo.errors import DamagedFileError

LABEL_TABLE = "labels.csv"
_EXPECTED = "rows with a file name and a label"
# First cells of a header row.
_HEADERS = {"file", "filename", "file_name", "file name", "image", "image_path", "img", "name", "path", "picture"}


def find_label_table(folder: Path) -> Path | None:
    """Return the path of the table of labels in a folder; None if there is none."""
    path = folder / LABEL_TABLE
    return path if path.exists() or path.is_symlink() else None


def read_label_table(path: Path, images: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the file names, relative to the folder of the table with `/`, and the labels, in the order of the rows.

    Columns are separated by commas, semicolons or tabs. The first row may be a header ("file", "image", "name", ...).

    Parameters
    ----------
    path : Path
        The table, in UTF-8.
    images : collection of str
        The files that the table may name.

    Raises
    ------
    DamagedFileError
        If the table cannot be read, a row has other than two cells, names no image of `images` or one that another row names, or has no
        label; the error names the row's line.
    """
    rows = _read_rows(path, images)
    first_line, (first_name, _) = rows[0]
    if first_name.lower() in _HEADERS and first_name not in images:
        rows = rows[1:]
    if not rows:
        raise DamagedFileError(path, _EXPECTED, "only a header")
    lines: dict[str, int] = {}
    labels = []
    for line, (cell, label) in rows:
        name = str(PurePosixPath(cell))
        if name not in images:
            header = " (a header must be file,label)" if line == first_line else ""
            raise DamagedFileError(path, "file names of pictures in its folder", f"{cell[:80]!r} in line {line}{header}")
        if name in lines:
            raise DamagedFileError(path, "one row per picture", f"{name[:80]!r} in lines {lines[name]} and {line}")
        if not label or not label.isprintable():
            raise DamagedFileError(path, "a label in every row", f"{label[:40]!r} in line {line}")
        lines[name] = line
        labels.append(label)
    return list(lines), labels


def _read_rows(path: Path, images: Collection[str]) -> list[tuple[int, tuple[str, str]]]:
    """Return the line and the two cells of every row that is not blank."""
    text = read_text(path, _EXPECTED)
    rows = []
    try:
        delimiter = _find_delimiter(text, images)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if not any(stripped):
                continue
            if len(stripped) != 2:
                raise DamagedFileError(path, _EXPECTED, f"{len(stripped)} cells in line {reader.line_num}")
            rows.append((reader.line_num, (stripped[0], stripped[1])))
    except csv.Error as error:
        raise DamagedFileError(path, _EXPECTED, str(error)[:80]) from None
    if not rows:
        raise DamagedFileError(path, _EXPECTED, "only blank rows")
    return rows


def _find_delimiter(text: str, images: Collection[str]) -> str:
    """Return the separator under which one of the first two rows names an image, else one that splits a row into two; else a comma."""
    lines = [line for line in text.splitlines() if line.strip()][:2]
    names = {}
    for delimiter in ",;\t":
        rows = [next(csv.reader([line], delimiter=delimiter), []) for line in lines]
        names[delimiter] = {cells[0].strip() for cells in rows if len(cells) == 2}
    naming = [delimiter for delimiter in names if not names[delimiter].isdisjoint(images)]
    return (naming or [delimiter for delimiter in names if names[delimiter]] or [","])[0]
