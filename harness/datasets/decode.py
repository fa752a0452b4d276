"""Decoding of one picture file to pixels: scaled by sample type, turned upright, or refused with the reason."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model_zoo.errors import DamagedFileError

if TYPE_CHECKING:
    from PIL.Image import Image

# EXIF tag of the orientation, and its values for a picture that is stored upright.
ORIENTATION, UPRIGHT = 0x0112, (None, 0, 1)
SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
_IRREGULAR_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels uint8 [H, W, 3], and the changes made to those of the file, in the plural: "turned upright as their EXIF tag says"."""

    pixels: np.ndarray
    changes: tuple[str, ...]


def decode(path: Path, transform: Callable[[Image], Image] = lambda picture: picture) -> Picture:
    """Read one picture as RGB, through `transform`.

    16-bit samples are divided by 257 and floats in [0, 1] multiplied by 255; a picture is turned as its EXIF tag says. Palettes, grey, CMYK
    and one-bit pixels become RGB as Pillow converts them.

    Raises
    ------
    DamagedFileError
        If the file is not a picture, or has several frames, transparent pixels, 32-bit integers, or floats outside [0, 1].
    """
    from PIL import Image as Pillow
    from PIL import ImageOps

    _check_regular(path)
    try:
        with Pillow.open(path) as picture:
            frames = getattr(picture, "n_frames", 1)
            if frames > 1:
                raise DamagedFileError(path, "one picture", f"{frames} of them (an animation, or pages)")
            changes = () if picture.getexif().get(ORIENTATION) in UPRIGHT else ("turned upright as their EXIF tag says",)
            upright = ImageOps.exif_transpose(picture)
            rgb, scaling_notes = _to_rgb(path, upright, picture.format)
            return Picture(np.asarray(transform(rgb)), (*changes, *scaling_notes))
    except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError) as error:
        raise DamagedFileError(path, "an image", str(error).splitlines()[0] if str(error) else type(error).__name__) from None


def _check_regular(path: Path) -> None:
    """Refuse missing files and those that are not regular, some of which would hang."""
    try:
        mode = path.stat().st_mode
    except OSError:
        raise DamagedFileError(path, "an image", "a link to nothing" if path.is_symlink() else "no file") from None
    for is_kind, name in _IRREGULAR_KINDS:
        if is_kind(mode):
            raise DamagedFileError(path, "an image", name)


def _to_rgb(path: Path, picture: Image, kind: str | None) -> tuple[Image, tuple[str, ...]]:
    from PIL import Image as Pillow

    if picture.mode in SIXTEEN_BITS or (picture.mode == "I" and kind in ("PNG", "PPM")):
        values = np.asarray(picture).astype(np.float64)
        return Pillow.fromarray(np.rint(values / 257).astype(np.uint8)).convert("RGB"), ("of 16 bits, divided by 257",)
    if picture.mode == "I":
        integers = np.asarray(picture)
        low, high = integers.min(), integers.max()
        raise DamagedFileError(path, "8 or 16 bits a sample, or floats in [0, 1]", f"32-bit integers from {low} to {high}")
    if picture.mode == "F":
        values = np.asarray(picture)
        if not np.isfinite(values).all() or values.min() < 0.0 or values.max() > 1.0:
            raise DamagedFileError(path, "floats in [0, 1]", f"floats from {values.min():g} to {values.max():g}")
        return Pillow.fromarray(np.rint(255.0 * values).astype(np.uint8)).convert("RGB"), ("of floats, multiplied by 255",)
    if picture.has_transparency_data:
        alpha = np.asarray(picture.convert("RGBA"))[..., 3]
        if alpha.min() < 255:
            raise DamagedFileError(path, "an image without transparent pixels", f"{int((alpha < 255).sum())} of them")
    return picture.convert("RGB"), ()
