"""Reader of labelled images in .npz files: the input of training without further dependencies, and of splits that users assemble."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model_zoo.errors import DamagedFileError, UsageError


def read_arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the images `x`, uint8 [N, H, W, C] with C = 3 or 1, and the labels `y`, as int64 [N], of an .npz file without unpickling.

    Raises
    ------
    UsageError
        If the file does not exist.
    DamagedFileError
        If the file cannot be read, lacks `x` or `y`, or holds arrays of other shapes or types.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images, labels = arrays["x"], arrays["y"]
    except FileNotFoundError:
        raise UsageError(f"no file {path}") from None
    except Exception as error:
        # On a damaged archive, zipfile, zlib, tokenize and numpy raise about a dozen different exceptions.
        raise DamagedFileError(path, "arrays x and y", f"{type(error).__name__}: {error}".splitlines()[0]) from None
    has_shapes = images.ndim == 4 and images.shape[3] in (1, 3) and labels.shape == images.shape[:1]
    if not (has_shapes and images.dtype == np.uint8 and labels.dtype.kind in "iu"):
        described = f"x {images.dtype} {list(images.shape)}, y {labels.dtype} {list(labels.shape)}"
        raise DamagedFileError(path, "x uint8 [N, H, W, 3] or [N, H, W, 1], and y integers [N]", described)
    return images, labels.astype(np.int64)
