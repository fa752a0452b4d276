"""Exceptions for errors that a user can correct, each with a one-line message and an exit status.

The library raises them; commands print `str(error)` and exit with `error.exit_code`. The module needs the standard library only, so that
`python -m model_zoo.training` can use it on a machine with torch and numpy alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

# Maximum number of characters of a message, and of a message about a file without what a command writes in front of it.
LONGEST, LINE = 300, 280


def printable(text: str) -> str:
    """Return a text with control characters, line breaks and other characters that cannot be printed as escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str, length: int = LINE) -> str:
    """Return a text as one line of at most `length` characters: control characters escaped, and the middle left out if it is longer."""
    line = printable(text[: 8 * length])
    if len(text) <= 8 * length and len(line) <= length:
        return line
    return f"{line[: length - length // 3 - 5]} ... {line[-(length // 3) :]}"


class UserError(Exception):
    """Base class of errors that the user can correct. `exit_code` is the exit status of a command that raises it.

    `str` returns one line of at most 300 characters: control characters are escaped, and a longer message loses its middle.
    """

    exit_code = 1

    def __str__(self) -> str:
        return one_line(super().__str__(), LONGEST)


class UsageError(UserError):
    """Invalid request (exit status 2, which click uses for bad usage)."""

    exit_code = 2


class UnknownNameError(UsageError):
    """Name that a registry does not contain; the message suggests the closest name and the command that lists all names.

    Parameters
    ----------
    kind : str
        Kind of thing that was looked up, in the singular: "model", "attack", "suite", "dataset".
    name : str
        The name that was not found.
    available : iterable of str
        The names that exist.
    listing : str
        The command that lists them, for example "harness ls models", or the URL of a page that does.
    """

    def __init__(self, kind: str, name: str, available: Iterable[str], listing: str) -> None:
        names = sorted(available)
        matches = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
        hint = f" Did you mean {matches[0]!r}?" if matches else ""
        source = listing if "://" in listing else f"`{listing}`"
        super().__init__(f"unknown {kind} {one_line(name, 60)!r}.{hint} {source} lists what exists.")


class DamagedFileError(UserError):
    """File whose content is wrong; the message is one line that names the file, what was expected and what was found."""

    def __init__(self, path: Path | str, expected: str, actual: str) -> None:
        name = one_line(str(path), 4096)
        room = max(LINE - len(name) - len(": expected , found "), 120)
        expected_text = one_line(expected, room // 2)
        super().__init__(f"{name}: expected {expected_text}, found {one_line(actual, room - len(expected_text))}")
        self.path, self.expected, self.actual = Path(path), expected, actual


class MissingDataError(UserError):
    """Data set or checkpoint that is not on this machine; the message says how to get it."""


class RefusedError(UserError):
    """Model or images that must not be attacked; the message names the check that rejected them."""


class UserCodeError(UserError):
    """Exception in the code of a user's network: the message has the exception and its location, `trace` the whole traceback."""

    def __init__(self, message: str, trace: str) -> None:
        super().__init__(message)
        self.trace = trace

    def __reduce__(self) -> tuple[type[UserCodeError], tuple[str, str]]:
        return type(self), (str(self), self.trace)
