"""Labelled images in .npz files: what training reads where nothing else is installed, and whole splits that people put together."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model_zoo.errors import DamagedFileError, UsageError


def read_arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images `x` uint8 [N, H, W, 3] and labels `y` as int64 [N] of an .npz file; nothing in it is unpickled.

    Raises
    ------
    UsageError
        If there is no such file.
    DamagedFileError
        If it cannot be read or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images, labels = arrays["x"], arrays["y"]
    except FileNotFoundError:
        raise UsageError(f"no file {path}") from None
    except Exception as error:
        # A damaged archive makes zipfile, zlib, tokenize and numpy raise a dozen kinds of exception between them.
        raise DamagedFileError(path, "arrays x and y", f"{type(error).__name__}: {error}".splitlines()[0]) from None
    shapes = images.ndim == 4 and images.shape[3] == 3 and labels.shape == images.shape[:1]
    if not (shapes and images.dtype == np.uint8 and labels.dtype.kind in "iu"):
        described = f"x {images.dtype} {list(images.shape)}, y {labels.dtype} {list(labels.shape)}"
        raise DamagedFileError(path, "x uint8 [N, H, W, 3] and y integers [N]", described)
    return images, labels.astype(np.int64)
