"""Exceptions for errors that a user can correct, each with a one-line message and an exit status.

The library raises them; commands print `str(error)` and exit with `error.exit_code`. The module needs the standard library only, so that
`python -m model_zoo.training` can use it on a machine with torch and numpy alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

# Maximum number of characters of a message.
LONGEST = 300


class UserError(Exception):
    """Base class of errors that the user can correct. `exit_code` is the exit status of a command that raises it.

    `str` returns one line of at most 300 characters: control characters are escaped, and a longer message loses its middle.
    """

    exit_code = 1

    def __str__(self) -> str:
        text = super().__str__()
        if not text.isprintable():
            text = "".join(character if character.isprintable() else character.encode("unicode_escape").decode() for character in text)
        return text if len(text) <= LONGEST else f"{text[: LONGEST // 2 - 2]} … {text[-(LONGEST // 2 - 1) :]}"


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
    known : iterable of str
        The names that exist.
    listing : str
        The command that lists them, for example "harness ls models", or the URL of a page that does.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], listing: str) -> None:
        names = sorted(known)
        matches = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
        hint = f" Did you mean {matches[0]!r}?" if matches else ""
        source = listing if "://" in listing else f"`{listing}`"
        super().__init__(f"unknown {kind} {name!r}.{hint} {source} lists what exists.")


class DamagedFileError(UserError):
    """File whose content is wrong; the message names the file, what was expected and what was found."""

    def __init__(self, path: Path | str, expected: str, found: str) -> None:
        super().__init__(f"{path}: expected {expected}, found {found}")
        self.path, self.expected, self.found = Path(path), expected, found


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
