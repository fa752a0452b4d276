"""Checkpoints that torch wrote, read without executing anything, and their tensors by name."""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model_zoo.errors import DamagedFileError, UsageError

# Far above every published checkpoint (a WRN-34-10 with its optimizer has 0.6 GB), far below what fills a machine.
LARGEST_BYTES = 2 << 30
# What stands beside the tensors in files of the field: NumPy numbers (a best accuracy), by the names of old and new releases, and the
# arguments of the command that trained the network. Nothing here executes anything.
_SCALAR = np.float64(0).__reduce__()[0]
BESIDES: list[Any] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float32", "float64", "int64")),
    argparse.Namespace,
]


def check_size(path: Path) -> None:
    """Make sure that a file is there and not larger than any checkpoint is.

    Raises
    ------
    UsageError
        If there is no such file.
    DamagedFileError
        If it is too large.
    """
    if not path.is_file():
        raise UsageError(f"no file {path}")
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        raise DamagedFileError(path, f"at most {LARGEST_BYTES:,} bytes", f"{size:,}")


class Placeholder:
    """In the place of an object that a file asks for and that is never made."""

    def __init__(self, *arguments: object, **named: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


# More kinds of objects than any file has beside its tensors.
PLACEHOLDERS = 100


def read_checkpoint(path: Path, placeholders: bool = False) -> dict[str, Any]:
    """The mapping that `torch.save` wrote; nothing in the file is executed, and it cannot unfold to more than its own size.

    Parameters
    ----------
    placeholders : bool
        Whether objects that would have to be executed (a configuration, a date) become `Placeholder` instead of an error.

    Raises
    ------
    DamagedFileError
        If the file is no checkpoint, is cut short, or holds something that would have to be executed.
    UsageError
        If there is no such file.
    """
    check_size(path)
    _check_stored(path)
    known, asked_for = list(BESIDES), list[str]()
    try:
        while True:
            try:
                with torch.serialization.safe_globals(known):
                    content = torch.load(path, map_location="cpu", weights_only=True)
                break
            except pickle.UnpicklingError as error:
                # torch's own words advise reading the file all the same, which would execute what is in it.
                named = re.search(r"GLOBAL (\S+)", str(error))
                asked = named[1] if named and "." in named[1] else f"builtins.{named[1]}" if named else ""
                if not placeholders or not asked or asked in asked_for or len(asked_for) >= PLACEHOLDERS:
                    blamed = [named[1]] if named else asked_for
                    what = f"something that would have to be executed ({blamed[0]})" if blamed else "another file"
                    raise DamagedFileError(path, "a checkpoint of tensors and numbers alone", what) from None
                asked_for.append(asked)
                known.append((type("Placeholder", (Placeholder,), {}), asked))
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, MemoryError, AttributeError, TypeError, IndexError):
        raise DamagedFileError(path, "a checkpoint that torch can read", "another file, or one cut short") from None
    if not isinstance(content, dict):
        raise DamagedFileError(path, "a state dict of tensors", "something else")
    return content


def tensors(
    path: Path, content: Mapping[str, Any], keys: Iterable[str] = ("state_dict", "net"), prefixes: Iterable[str] = ()
) -> dict[str, Any]:
    """The state dict in a checkpoint, floats as float32, without counts of batches.

    Parameters
    ----------
    keys : iterable of str
        Where it may be; the checkpoint itself is taken where it is under none of them.
    prefixes : iterable of str
        Taken off the names, one after the other, where all of them have it. DataParallel's `module.` always is.

    Raises
    ------
    DamagedFileError
        If there is none, or two names become one.
    """
    state = next((content[key] for key in keys if key in content), content)
    if not isinstance(state, dict) or not state or not all(isinstance(item, torch.Tensor) for item in state.values()):
        raise DamagedFileError(path, "a state dict of tensors", "something else")
    names = [str(name) for name in state]
    for prefix in ("module.", *prefixes):
        if all(name.startswith(prefix) for name in names):
            names = [name.removeprefix(prefix) for name in names]
    found: dict[str, torch.Tensor] = {}
    unfolded = 0
    for name, tensor in zip(names, state.values(), strict=True):
        if name in found:
            raise DamagedFileError(path, "every tensor once", f"{name!r} twice")
        # A view of one number can have any shape: what it becomes in memory counts.
        unfolded += tensor.numel() * 4
        if unfolded > LARGEST_BYTES:
            raise DamagedFileError(path, f"tensors of at most {LARGEST_BYTES:,} bytes", f"more with {name!r} of shape {list(tensor.shape)}")
        if not name.endswith(".num_batches_tracked"):
            found[name] = tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
    return found


def _check_stored(path: Path) -> None:
    """Refuse an archive whose entries are compressed: torch stores them as they are, and what is compressed may unfold to anything."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            unfolded = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError):
        raise DamagedFileError(path, "a checkpoint that torch can read", "another file, or one cut short") from None
    if unfolded > path.stat().st_size:
        raise DamagedFileError(path, "entries stored as they are", f"ones that unfold to {unfolded:,} bytes")
