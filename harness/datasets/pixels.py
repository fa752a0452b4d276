"""Arrays of images and labels from users' files: layout and scale are read from shape and type, or refused if they are ambiguous."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.datasets.text_labels import check_counted_from_zero
from model_zoo.errors import DamagedFileError

CHANNELS = (1, 3)
_SHAPES = "images [N, H, W], [N, H, W, C] or [N, C, H, W] with C = 1 or 3"


def to_channels_last(path: Path, images: np.ndarray) -> np.ndarray:
    """Return images [N, H, W], [N, H, W, C] or [N, C, H, W] with C = 1 or 3 as [N, H, W, C].

    Raises
    ------
    DamagedFileError
        If the shape is another one or fits two layouts, or a size is 0.
    """
    shape = list(images.shape)
    if images.ndim in (3, 4) and 0 in shape:
        raise DamagedFileError(path, "at least one image of at least one pixel", f"shape {shape}")
    if images.ndim == 3:
        if shape[1] in CHANNELS or shape[2] in CHANNELS:
            raise DamagedFileError(path, _SHAPES, f"{shape}, which may be one image (add the first axis) or {shape[0]} grey ones")
        return images[..., None]
    if images.ndim != 4 or (shape[1] not in CHANNELS and shape[3] not in CHANNELS):
        raise DamagedFileError(path, _SHAPES, str(shape))
    if shape[1] in CHANNELS and shape[3] in CHANNELS:
        raise DamagedFileError(path, _SHAPES, f"{shape}, which fits both")
    return images if shape[3] in CHANNELS else images.transpose(0, 2, 3, 1)


def to_bytes(path: Path, images: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return images of any shape as uint8, and notes on how they were scaled: uint8 unchanged, floats in [0, 1] times 255, rounded.

    Raises
    ------
    DamagedFileError
        If they are of another type, or floats outside [0, 1], NaN or infinite.
    """
    expected = "images of type uint8, or floats in [0, 1]"
    if images.dtype == np.uint8:
        dark = ("its values are 0 and 1 only, of 255: were they converted from floats in [0, 1]?",) if images.max() <= 1 else ()
        return images, dark
    if images.dtype.kind != "f":
        raise DamagedFileError(path, expected, f"type {images.dtype}")
    finite = np.isfinite(images)
    if not finite.all():
        raise DamagedFileError(path, expected, f"{int((~finite).sum())} values that are NaN or infinite")
    low, high = float(images.min()), float(images.max())
    if low < 0.0 or high > 1.0:
        hint = " (divide by 255, or save as uint8)" if low >= 0.0 and 1.0 < high <= 255.0 else ""
        raise DamagedFileError(path, expected, f"floats from {low:g} to {high:g}{hint}")
    scaled = np.empty(images.shape, np.uint8)
    for position, image in enumerate(images):
        # One image at a time, because float64 copies of all would need eight times the memory.
        scaled[position] = np.rint(image.astype(np.float64) * 255.0)
    return scaled, ("its floats were multiplied by 255 and rounded",)


def to_labels(path: Path, labels: np.ndarray, count: int, classes: int | None) -> tuple[np.ndarray, int]:
    """Return labels [N] or [N, 1] of `count` images as int64 [N], and the number of classes.

    Parameters
    ----------
    labels : np.ndarray
        Integers, or floats that are whole numbers, from 0 to the number of classes less 1.
    classes : int or None
        The number of classes; None for one more than the largest label.

    Raises
    ------
    DamagedFileError
        If there are not `count` labels, or they have another type, shape or range.
    """
    if labels.ndim == 2 and labels.shape[1] > 1 and labels.shape[0] == count:
        raise DamagedFileError(path, "one label per image", f"labels {list(labels.shape)} (one-hot? save labels.argmax(1))")
    if labels.ndim not in (1, 2) or labels.shape[0] != count or labels.size != count:
        raise DamagedFileError(path, f"{count} labels, as many as images", f"labels {list(labels.shape)}")
    if labels.dtype.kind not in "iuf":
        raise DamagedFileError(path, "labels that are integers", f"type {labels.dtype}")
    values = labels.reshape(-1)
    if labels.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.rint(values)).all()):
        wrong = values[~np.isfinite(values) | (values != np.rint(values))][0]
        raise DamagedFileError(path, "labels that are whole numbers", f"{wrong:g}")
    low, high = int(values.min()), int(values.max())
    if low < 0 or (classes is not None and high >= classes):
        limit = "" if classes is None else f" to {classes - 1}, of the {classes} class names"
        raise DamagedFileError(path, f"labels from 0{limit}", f"labels from {low} to {high}")
    if classes is None:
        check_counted_from_zero(path, low, high)
    return values.astype(np.int64), high + 1 if classes is None else classes
