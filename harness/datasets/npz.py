"""Images and labels in .npz files of numpy. Nothing is unpickled, and no array is made that the file does not contain in full."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from model_zoo.errors import DamagedFileError

IMAGES, LABELS = ("images", "x", "X", "data"), ("labels", "y")
# Maximum number of bytes of one array.
MAX_BYTES = 8 * 2**30


def read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the images (array `images`, `x`, `X` or `data`) and the labels (array `labels` or `y`) of an .npz file, as they are.

    Raises
    ------
    DamagedFileError
        If the file is damaged, lacks one of the arrays or has two of them, or an array is pickled, structured or larger than 8 GiB.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            images, labels = (_choose(path, names, accepted) for accepted in (IMAGES, LABELS))
            return _read_array(path, archive, images), _read_array(path, archive, labels)
    except DamagedFileError:
        raise
    except zipfile.BadZipFile as error:
        # Imported here because its package imports torch, and listing the data sets must not.
        from model_zoo.adapters.kind import kind_of

        kind = kind_of(path)
        raise DamagedFileError(path, "arrays of numpy (.npz)", str(error)[:80] if kind.startswith("arrays of numpy") else kind) from None
    except Exception as error:
        # On a damaged archive, zipfile, zlib, tokenize and numpy raise about a dozen different exceptions.
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:100]
        raise DamagedFileError(path, "arrays of numpy (.npz)", reason) from None


def _choose(path: Path, names: list[str], accepted: tuple[str, ...]) -> str:
    """Return the only name of an array that is one of `accepted`."""
    matches = [name for name in names if name in accepted]
    if len(matches) != 1:
        present = ", ".join(names[:8])[:80] or "no array"
        problem = f"{', '.join(matches)}" if matches else present
        raise DamagedFileError(path, f"one array called {', '.join(accepted[:-1])} or {accepted[-1]}", problem)
    return matches[0]


def _read_array(path: Path, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    member = archive.getinfo(f"{name}.npy" if f"{name}.npy" in archive.namelist() else name)
    with archive.open(member) as file:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise DamagedFileError(path, f"a plain array {name}", f"format {version[0]}.{version[1]} of numpy")
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read_header(file)
        if dtype.hasobject:
            raise DamagedFileError(path, f"an array {name} of numbers", "Python objects, which are never unpickled")
        if dtype.kind not in "biuf":
            raise DamagedFileError(path, f"an array {name} of numbers", f"type {str(dtype)[:40]}")
        size = math.prod(shape) * dtype.itemsize
        if size > MAX_BYTES:
            raise DamagedFileError(path, f"at most {MAX_BYTES:,} bytes per array", f"{name} {list(shape)} {dtype}")
        if any(length < 0 for length in shape) or file.tell() + size != member.file_size:
            raise DamagedFileError(path, f"the {size:,} bytes of {name} {list(shape)}", f"{member.file_size - file.tell():,} bytes")
    with archive.open(member) as file:
        array: np.ndarray = npy.read_array(file, allow_pickle=False)
        if file.read(1):
            raise DamagedFileError(path, f"nothing after array {name}", "more bytes")
    return array
