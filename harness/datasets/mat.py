"""Images and labels in .mat files in the format of SVHN (Netzer et al. 2011): `X` [H, W, C, N] and `y` [N, 1]."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from harness.datasets.npz import MAX_BYTES
from harness.datasets.pixels import CHANNELS
from model_zoo.errors import DamagedFileError

_EXPECTED = "a .mat file with X [H, W, C, N] and y [N, 1]"
DIGITS = 10


def read_mat(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the images, as [N, H, W, C], and the labels [N] of a .mat file of version 4 to 7, as they are.

    Raises
    ------
    DamagedFileError
        If the file is damaged, of version 7.3, or lacks one of the arrays, or they have other shapes or are larger than 8 GiB.
    """
    import scipy.io

    try:
        with path.open("rb") as file:
            head = file.read(512)
        if b"MATLAB 7.3" in head[:128] or head.startswith(b"\x89HDF"):
            raise DamagedFileError(path, _EXPECTED, "version 7.3 (HDF5): in MATLAB, save it again with save(..., '-v7')")
        for name, shape, kind in scipy.io.whosmat(str(path)):
            if name in ("X", "y") and math.prod(shape) > MAX_BYTES:
                raise DamagedFileError(path, f"at most {MAX_BYTES:,} values per array", f"{name} {list(shape)} {kind}")
        arrays: dict[str, Any] = scipy.io.loadmat(str(path), variable_names=["X", "y"], appendmat=False)
        names = [name for name, *_ in scipy.io.whosmat(str(path))]
    except DamagedFileError:
        raise
    except Exception as error:
        # On a damaged file, scipy, zlib and struct raise about a dozen different exceptions.
        # Imported here because its package imports torch, and listing the data sets must not.
        from model_zoo.adapters.kind import kind_of

        kind = kind_of(path)
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:80] if kind.startswith(("another file", "text")) else kind
        raise DamagedFileError(path, _EXPECTED, reason) from None
    for name in ("X", "y"):
        if not isinstance(arrays.get(name), np.ndarray):
            raise DamagedFileError(path, _EXPECTED, f"no {name}, only {', '.join(names[:8])[:80] or 'nothing'}")
    images, labels = arrays["X"], arrays["y"]
    if labels.ndim == 2 and 1 in labels.shape:
        labels = labels.reshape(-1)
    if images.ndim == 3 and len(labels) == 1:
        # MATLAB drops a last axis of length 1.
        images = images[..., None]
    if images.ndim != 4 or images.shape[2] not in CHANNELS or labels.ndim != 1 or images.shape[3] != len(labels):
        raise DamagedFileError(path, _EXPECTED, f"X {list(images.shape)} and y {list(arrays['y'].shape)}")
    return np.ascontiguousarray(images.transpose(3, 0, 1, 2)), labels


def to_digits(path: Path, labels: np.ndarray, class_names: tuple[str, ...] | None) -> tuple[np.ndarray, bool]:
    """Return labels counted from 0, and whether 10 was read as digit 0: SVHN's labels are from 1 to 10, and 10 is the digit 0.

    Raises
    ------
    DamagedFileError
        If labels from 1 to 10 have class names other than the digits, so that they may be counted from 1.
    """
    if labels.dtype.kind not in "iuf" or not len(labels) or labels.min() < 1 or labels.max() != DIGITS:
        return labels, False
    if class_names is not None and class_names != tuple(map(str, range(DIGITS))):
        actual = "labels from 1 to 10, which are counted from 1, or SVHN's (10 is digit 0)"
        raise DamagedFileError(path, "labels counted from 0 with a classes.txt that does not list digits", actual)
    return np.where(labels == DIGITS, 0, labels), True
