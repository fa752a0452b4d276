"""Labels that are written as text: class names, or indices of classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from model_zoo.errors import DamagedFileError

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|nan|[+-]?inf", re.ASCII | re.IGNORECASE)
_INDEX = re.compile(r"[0-9]{1,9}")


def index_labels(path: Path, texts: Sequence[str], classes: Sequence[str] | None) -> tuple[list[int], tuple[str, ...]]:
    """Return the label of each text, and the class names.

    With `classes`, the texts are names of these or indices. Without them, texts that are all numbers are indices, from 0 to the number of
    classes less 1; all others are names, whose order is alphabetical.

    Raises
    ------
    DamagedFileError
        If the texts of the file `path` are neither, or could be both.
    """
    distinct = sorted(set(texts))
    indices = {text: int(text) for text in distinct if _INDEX.fullmatch(text)}
    if classes is not None:
        return _index_listed(path, texts, distinct, indices, tuple(classes))
    if len(indices) == len(distinct):
        count = max(indices.values()) + 1
        check_counted_from_zero(path, min(indices.values()), count - 1)
        return [indices[text] for text in texts], tuple(map(str, range(count)))
    numbers = [text for text in distinct if _NUMBER.fullmatch(text)]
    if numbers:
        raise DamagedFileError(path, "labels that are all names or all indices from 0", _not_indices(numbers, indices, distinct))
    labels = {name: label for label, name in enumerate(distinct)}
    return [labels[text] for text in texts], tuple(distinct)


def check_counted_from_zero(path: Path, low: int, high: int) -> None:
    """Refuse integer labels from `low` to `high` of unknown classes if none is 0, or if they would be more than 65,536 classes."""
    if low > 0:
        raise DamagedFileError(path, "labels counted from 0 (or a classes.txt with all class names)", f"labels from {low} to {high}")
    if high >= 2**16:
        raise DamagedFileError(path, "labels from 0 to 65,535", f"labels up to {high}")


def _not_indices(numbers: Sequence[str], indices: dict[str, int], distinct: Sequence[str]) -> str:
    others = [text for text in distinct if text not in numbers]
    if others:
        return f"{numbers[0]!r} and {others[0][:40]!r}"
    return repr(next(text for text in numbers if text not in indices)[:40])


def _index_listed(
    path: Path, texts: Sequence[str], distinct: Sequence[str], indices: dict[str, int], classes: tuple[str, ...]
) -> tuple[list[int], tuple[str, ...]]:
    by_name = {name: label for label, name in enumerate(classes)}
    are_names = all(text in by_name for text in distinct)
    are_indices = all(text in indices and indices[text] < len(classes) for text in distinct)
    if are_names and are_indices and any(by_name[text] != indices[text] for text in distinct):
        raise DamagedFileError(path, "labels that are names or indices of classes", "numbers that are both, with different meanings")
    if not are_names and not are_indices:
        strangers = [text for text in distinct if text not in by_name]
        invalid = [text for text in strangers if text not in indices or indices[text] >= len(classes)]
        expected = f"only names, or only indices, of the {len(classes)} classes of classes.txt"
        raise DamagedFileError(path, expected, repr((invalid or strangers)[0][:40]))
    mapping = by_name if are_names else indices
    return [mapping[text] for text in texts], classes
