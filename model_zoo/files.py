"""Files and their names: a file appears completely or not at all, under a name that is valid on Linux, macOS and Windows."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Names that Windows reserves for devices, with any ending and with spaces before it.
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\..*)?", re.IGNORECASE)


@contextmanager
def placing(path: Path, is_new: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, which is renamed to `path` at the end, or deleted if the block raises.

    The temporary name is unique across processes, containers and machines that share the folder.

    Parameters
    ----------
    is_new : bool
        Whether to raise a FileExistsError, and to keep the existing file, if `path` exists at the end.

    Raises
    ------
    OSError
        If the file cannot be written; its `filename` is `path`.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    with _named(path, temporary):
        try:
            yield temporary
            if is_new:
                _rename_new(temporary, path)
            else:
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def place(path: Path, content: bytes, is_new: bool = False) -> None:
    """Write a file atomically, see `placing`."""
    with placing(path, is_new) as temporary:
        temporary.write_bytes(content)


def clock(folder: Path) -> float:
    """Return the time, in seconds since the epoch, by the clock of a folder's file system; writes and removes a file there."""
    probe = folder / f".{uuid.uuid4().hex}.tmp"
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _rename_new(temporary: Path, path: Path) -> None:
    """Rename a file unless `path` exists, whichever process was first."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # Some file systems have no links.
        path.open("xb").close()
        temporary.replace(path)


@contextmanager
def _named(path: Path, temporary: Path) -> Iterator[None]:
    """Name `path` in an OSError of the block that names no file or the temporary one."""
    try:
        yield
    except OSError as error:
        if error.filename not in (None, str(temporary)) or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def file_name(text: str) -> str:
    """Return a text as the name of a file on any system: characters that Windows refuses become "-", reserved names get one in front."""
    name = re.sub(r'[<>:"/\\|?*]', "-", "".join(character if character.isprintable() else "-" for character in text)).rstrip(" .") or "-"
    return f"-{name}" if _DEVICES.fullmatch(name) else name


def is_file_name(text: str) -> bool:
    """Return whether a text is the name of a file on any system as it is."""
    return file_name(text) == text
