"""What can go wrong for a user, each as one clear line and an exit status.

Commands print `str(error)` and exit with `error.exit_code`; the library raises. Everything here needs the standard library only,
so that `python -m model_zoo.training` can use it on a machine with torch and numpy alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """Something the user can put right. `exit_code` is what a command exits with."""

    exit_code = 1


class UsageError(UserError):
    """The request itself is wrong (exit status 2, as click uses for bad usage)."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that is in no registry; the message has the near miss and says where to list what exists.

    Parameters
    ----------
    kind : str
        What was looked up, in the singular: "model", "attack", "suite", "dataset".
    name : str
        The name that was not found.
    known : iterable of str
        The names that exist.
    listing : str
        The command that lists them, for example "harness ls models", or the address of a page that does.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], listing: str) -> None:
        names = sorted(known)
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        where = listing if "://" in listing else f"`{listing}`"
        super().__init__(f"unknown {kind} {name!r}.{hint} {where} lists what exists.")
        self.kind, self.name, self.suggestion = kind, name, close[0] if close else None


class DamagedFileError(UserError):
    """A file that is not what it should be: which file, what was expected, what was found."""

    def __init__(self, path: Path | str, expected: str, found: str) -> None:
        super().__init__(f"{path}: expected {expected}, found {found}")
        self.path, self.expected, self.found = Path(path), expected, found


class MissingDataError(UserError):
    """A data set or checkpoint that is not on this machine, with what to do about it."""


class RefusedError(UserError):
    """A model or images that no attack may be run on; the message names the gate that refused them."""


class UserCodeError(UserError):
    """Code of a user's network failed: the exception and its place in one line; `trace` is the whole traceback."""

    def __init__(self, message: str, trace: str) -> None:
        super().__init__(message)
        self.trace = trace

    def __reduce__(self) -> tuple[type[UserCodeError], tuple[str, str]]:
        return type(self), (str(self), self.trace)
