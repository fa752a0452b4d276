"""Reading of checkpoints that torch wrote, without executing anything in them, and of the tensors by name."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model_zoo.errors import DamagedFileError, UsageError

# Far more than any published checkpoint (a WRN-34-10 with its optimizer has 0.6 GB), and far less than the memory of a machine.
LARGEST_BYTES = 2 << 30
# Other objects that checkpoints of the field contain: NumPy numbers (a best accuracy), under the names of old and new releases, and the
# arguments of the command that trained the network. None of them executes code.
_SCALAR = np.float64(0).__reduce__()[0]
ALLOWED_GLOBALS: list[Any] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in "?bhilqBHILQefd"),
    argparse.Namespace,
]


def check_size(path: Path) -> None:
    """Check that a file exists and has at most `LARGEST_BYTES`.

    Raises
    ------
    UsageError
        If the file does not exist.
    DamagedFileError
        If the file is too large.
    """
    if not path.is_file():
        raise UsageError(f"no file {path}")
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        raise DamagedFileError(path, f"at most {LARGEST_BYTES:,} bytes", f"{size:,}")


class Placeholder:
    """Substitute for an object that is stored beside the tensors; constructing the object itself could execute code."""

    def __init__(self, *arguments: object, **named: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


class _MappingPlaceholder(Placeholder):
    """Substitute for a subclass of `dict`, whose items are stored; an instance is an `OrderedDict`, which torch fills with them."""

    def __new__(cls, *arguments: object, **named: object) -> Any:
        return OrderedDict()


class _ListPlaceholder(Placeholder):
    """Substitute for a list of another type, such as a deque; an instance is a `list`, which torch fills with the items."""

    def __new__(cls, *arguments: object, **named: object) -> Any:
        return []


# Messages of torch that name a type which it does not construct, and one whose instance it does not fill with items.
_GLOBAL = re.compile(r"GLOBAL (\S+)")
_FILLED = re.compile(rf"Can only (SETITEM|append|extend).* but got <class '{re.escape(__name__)}\.(\S+)'>", re.DOTALL)
# Largest number of types that placeholders replace; no known file has as many.
PLACEHOLDERS = 100


def read_checkpoint(path: Path, placeholders: bool = False) -> dict[str, Any]:
    """Return the mapping that `torch.save` wrote. Nothing in the file is executed, and it cannot decompress to more than its size.

    Parameters
    ----------
    placeholders : bool
        Whether all objects other than tensors and Python's own types (a configuration, a date, a number of NumPy) are replaced by a
        `Placeholder`; otherwise those that are not in `ALLOWED_GLOBALS` are an error.

    Raises
    ------
    DamagedFileError
        If the file is not a checkpoint with a mapping, is cut short, or contains an object whose construction would execute code.
    UsageError
        If the file does not exist.
    """
    check_size(path)
    _check_archive(path)
    replaced: dict[str, type[Placeholder]] = {}
    while True:
        allowed = [*([] if placeholders else ALLOWED_GLOBALS), *((kind, name) for name, kind in replaced.items())]
        try:
            with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
                # torch warns about pickle protocols, which does not help the user.
                warnings.simplefilter("ignore")
                content = torch.load(path, map_location="cpu", weights_only=True)
            break
        except pickle.UnpicklingError as error:
            # torch's message is not shown, because it advises loading the file in a way that executes its content.
            substitute = _substitute_for(str(error), replaced) if placeholders and len(replaced) < PLACEHOLDERS else None
            if substitute is None:
                match = _GLOBAL.search(str(error))
                culprits = [match[1]] if match else list(replaced)
                description = f"an object whose code would have to be executed ({culprits[0]})" if culprits else "another file"
                raise DamagedFileError(path, "a checkpoint with only tensors and numbers", description) from None
            replaced.update([substitute])
        except Exception:
            # torch reads damaged files without checks, so that any exception may occur.
            raise DamagedFileError(path, "a checkpoint that torch can read", "another file, or one cut short") from None
    if not isinstance(content, dict):
        raise DamagedFileError(path, "a state dict of tensors", "something else")
    return content


def _substitute_for(message: str, replaced: Mapping[str, type[Placeholder]]) -> tuple[str, type[Placeholder]] | None:
    """Return the name of the type that torch refuses in `message`, and a placeholder for it; None if no placeholder helps."""
    if match := _GLOBAL.search(message):
        name, base = match[1] if "." in match[1] else f"builtins.{match[1]}", Placeholder
    elif match := _FILLED.search(message):
        name = next((name for name, kind in replaced.items() if kind.__name__ == match[2]), "")
        base = _MappingPlaceholder if match[1] == "SETITEM" else _ListPlaceholder
    else:
        return None
    is_known = name in replaced and (base is Placeholder or issubclass(replaced[name], base))
    # Names of types in files may have characters that names of classes cannot have.
    return None if is_known or not name else (name, type(f"{base.__name__}{len(replaced)}", (base,), {}))


def tensors(
    path: Path, content: Mapping[str, Any], keys: Iterable[str] = ("state_dict", "net"), prefixes: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the state dict in a checkpoint, with floats as float32 and without batch norms' counts of batches.

    Parameters
    ----------
    keys : iterable of str
        Keys under which the state dict may be; if `content` has none of them, it is the state dict itself.
    prefixes : iterable of str
        Prefixes that are removed from the names, one after the other, if all names have them; DataParallel's `module.` is removed first.

    Raises
    ------
    DamagedFileError
        If there is no state dict, two names become the same, or the tensors have more than `LARGEST_BYTES` together.
    """
    state = next((content[key] for key in keys if key in content), content)
    if not isinstance(state, dict) or not state or not all(isinstance(item, torch.Tensor) for item in state.values()):
        raise DamagedFileError(path, "a state dict of tensors", "something else")
    names = [str(name) for name in state]
    for prefix in ("module.", *prefixes):
        if all(name.startswith(prefix) for name in names):
            names = [name.removeprefix(prefix) for name in names]
    by_name: dict[str, torch.Tensor] = {}
    total_bytes = 0
    for name, tensor in zip(names, state.values(), strict=True):
        if name in by_name:
            raise DamagedFileError(path, "distinct tensor names", f"{name!r} twice")
        # A stored view of one number can have any shape, so the size in memory is what counts.
        total_bytes += tensor.numel() * 4
        if total_bytes > LARGEST_BYTES:
            raise DamagedFileError(path, f"tensors of at most {LARGEST_BYTES:,} bytes", f"more with {name!r} of shape {list(tensor.shape)}")
        if not name.endswith(".num_batches_tracked"):
            by_name[name] = tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
    return by_name


def _check_archive(path: Path) -> None:
    """Reject an archive with compressed entries, which may decompress to any size, or with an entry that its checksum does not fit.

    torch does not compress entries and does not compare checksums. A checksum of 0 means that torch was configured not to compute it.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return
    try:
        with zipfile.ZipFile(path) as archive:
            total_bytes = sum(entry.file_size for entry in archive.infolist())
            if total_bytes > path.stat().st_size:
                raise DamagedFileError(path, "uncompressed entries", f"entries that decompress to {total_bytes:,} bytes")
            for entry in archive.infolist():
                with archive.open(entry) as content:
                    while entry.CRC and content.read(1 << 20):
                        pass
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError):
        # RuntimeError includes what zipfile raises for encryption and for unknown methods of compression.
        raise DamagedFileError(path, "a checkpoint that torch can read", "another file, or one cut short or damaged") from None
