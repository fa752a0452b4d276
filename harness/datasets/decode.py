"""Decoding of one picture file to pixels: scaled by sample type, turned upright, or refused with the reason."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.datasets.regular import check_regular
from model_zoo.errors import DamagedFileError

if TYPE_CHECKING:
    from PIL.Image import Image

# Formats that are read, by Pillow's names; some others of Pillow start programs (EPS).
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM", "TGA", "TIFF")
# Maximum number of pixels of one picture.
MAX_PIXELS = 64 * 2**20
# EXIF tag of the orientation, and its values for a picture that is stored upright.
ORIENTATION, UPRIGHT = 0x0112, (None, 0, 1)
SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
# Pillow's names of stored forms with 16 bits per channel, of which it keeps the upper 8.
_HALVED = re.compile(r"(RGB[AXa]?|LA|CMYK);16[BLN]")
# TIFF tags: bits per sample, meaning of the values, type of the samples.
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels uint8 [H, W, C], and the changes made to those of the file, in the plural: "turned upright as their EXIF tag says"."""

    pixels: np.ndarray
    changes: tuple[str, ...]


def decode(path: Path, transform: Callable[[Image], Image] = lambda picture: picture, channels: int = 3) -> Picture:
    """Read one picture as RGB (3 channels) or grey (1 channel), through `transform`.

    16-bit samples are divided by 257 and floats in [0, 1] multiplied by 255; a picture is turned as its EXIF tag says. Palettes, CMYK and
    one-bit pixels become RGB as Pillow converts them, and grey becomes RGB by repetition.

    Raises
    ------
    DamagedFileError
        If the file is not a picture, or has several frames, transparent pixels, 32-bit integers, floats outside [0, 1], too many pixels, or
        colours although one channel is requested.
    """
    check_regular(path, "an image")
    try:
        with warnings.catch_warnings():
            # Pillow warns of damage (cut EXIF data, cut TIFF strips) and of gigantic pictures, and then reads on.
            warnings.simplefilter("error", UserWarning)
            warnings.simplefilter("error", RuntimeWarning)
            warnings.filterwarnings("ignore", message="Palette images with Transparency")
            return _read(path, transform, channels)
    except DamagedFileError:
        raise
    except Exception as error:
        # On damaged files, Pillow's decoders raise about a dozen different exceptions.
        raise DamagedFileError(path, "an image", _reason(path, error)) from None


def _reason(path: Path, error: Exception) -> str:
    from PIL import UnidentifiedImageError

    from model_zoo.adapters.kind import kind_of

    if isinstance(error, UnidentifiedImageError):
        kind = kind_of(path)
        return "a picture that cannot be read" if kind == "a picture" else kind
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text.replace(str(path), "it")[:120]


def _read(path: Path, transform: Callable[[Image], Image], channels: int) -> Picture:
    from PIL import Image as Pillow
    from PIL import ImageOps

    with Pillow.open(path, formats=FORMATS) as picture:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise DamagedFileError(path, f"at most {MAX_PIXELS:,} pixels", f"{width} x {height}")
        if picture.format == "PNG":
            # Loading does not compare the checksums of pixels; `verify` does, and leaves the picture unusable.
            picture.verify()
    with Pillow.open(path, formats=FORMATS) as picture:
        frames = getattr(picture, "n_frames", 1)
        if frames > 1:
            raise DamagedFileError(path, "one picture", f"{frames} pictures (an animation, or pages)")
        _check_samples(path, picture)
        stored_form = " ".join(str(tile[3]) for tile in picture.tile)
        changes: tuple[str, ...] = () if picture.getexif().get(ORIENTATION) in UPRIGHT else ("turned upright as their EXIF tag says",)
        if _HALVED.search(stored_form):
            changes += ("of 16 bits per channel, of which the upper 8 are used",)
        upright = ImageOps.exif_transpose(picture)
        scaled, scaling_notes = _to_eight_bits(path, upright, picture.format)
        pixels = np.asarray(transform(_with_channels(path, scaled, channels)))
        return Picture(pixels[..., None] if pixels.ndim == 2 else pixels, (*changes, *scaling_notes))


def _check_samples(path: Path, picture: Image) -> None:
    """Refuse TIFF samples that Pillow would read with another meaning: 12 bits as 16, signed as unsigned, inverted as plain."""
    tags = getattr(picture, "tag_v2", None)
    if picture.format != "TIFF" or tags is None:
        return
    bits = tags.get(_BITS, (1,))
    if any(count not in (1, 2, 4, 8, 16, 32) for count in bits):
        raise DamagedFileError(path, "1, 2, 4, 8, 16 or 32 bits per sample", f"{bits[0]}")
    if 2 in tags.get(_SAMPLE_FORMAT, (1,)) and max(bits) < 32:
        raise DamagedFileError(path, "unsigned samples, or floats", "signed integers")
    if tags.get(_PHOTOMETRIC) == 0 and max(bits) > 8:
        raise DamagedFileError(path, "samples with 0 as black", f"{bits[0]} bits per sample with 0 as white")


def _to_eight_bits(path: Path, picture: Image, kind: str | None) -> tuple[Image, tuple[str, ...]]:
    """Return a picture in mode L or RGB, and a note on how its samples were scaled."""
    from PIL import Image as Pillow

    if picture.has_transparency_data:
        alpha = np.asarray(picture.convert("RGBA"))[..., 3]
        if alpha.min() < 255:
            raise DamagedFileError(path, "an image without transparent pixels", f"{int((alpha < 255).sum())} transparent pixels")
    if picture.mode in SIXTEEN_BITS or (picture.mode == "I" and kind in ("PNG", "PPM")):
        values = np.asarray(picture).astype(np.float64)
        return Pillow.fromarray(np.rint(values / 257).astype(np.uint8)), ("of 16 bits, divided by 257",)
    if picture.mode == "I":
        integers = np.asarray(picture)
        low, high = integers.min(), integers.max()
        raise DamagedFileError(path, "8 or 16 bits per sample, or floats in [0, 1]", f"32-bit integers from {low} to {high}")
    if picture.mode == "F":
        values = np.asarray(picture)
        if not np.isfinite(values).all() or values.min() < 0.0 or values.max() > 1.0:
            raise DamagedFileError(path, "floats in [0, 1]", f"floats from {values.min():g} to {values.max():g}")
        return Pillow.fromarray(np.rint(255.0 * values).astype(np.uint8)), ("of floats, multiplied by 255",)
    return picture.convert("L" if picture.mode in ("1", "L", "LA", "La") else "RGB"), ()


def _with_channels(path: Path, picture: Image, channels: int) -> Image:
    """Return a picture of mode L or RGB with 1 or 3 channels; refuse colours if there should be 1 channel."""
    if channels == 3:
        return picture.convert("RGB")
    if picture.mode == "L":
        return picture
    red, green, blue = picture.split()
    if red.tobytes() != green.tobytes() or red.tobytes() != blue.tobytes():
        raise DamagedFileError(path, "a grey picture (channels = 1)", "colours")
    return red
