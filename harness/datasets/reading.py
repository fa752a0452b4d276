"""How images are read: the size in pixels and the number of channels, as text behind the name or path of the data set."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import numpy as np

from model_zoo.errors import DamagedFileError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST = 4096
_OPTIONS = re.compile(r"\?(?=(?:resize|channels)=)(?P<options>[^?]*)$")


@dataclass(frozen=True)
class Reading:
    """Size and channels of the images; None for those of the files.

    Attributes
    ----------
    resize : int or None
        Height and width in pixels to which all images are resized.
    channels : int or None
        1 for grey, 3 for RGB.

    Raises
    ------
    UsageError
        If `resize` is not from 1 to 4096, or `channels` is neither 1 nor 3.
    """

    resize: int | None = None
    channels: int | None = None

    def __post_init__(self) -> None:
        if self.resize is not None and not 1 <= self.resize <= LARGEST:
            raise UsageError(f"resize must be a number of pixels from 1 to {LARGEST}, not {self.resize}")
        if self.channels not in (None, 1, 3):
            raise UsageError(f"channels must be 1 (grey) or 3 (RGB), not {self.channels}")

    def to_text(self) -> str:
        """Return the text that is appended to a path, such as "?resize=32&channels=1"; "" for the images as they are."""
        fields = {"resize": self.resize, "channels": self.channels}
        text = "&".join(f"{name}={value}" for name, value in fields.items() if value is not None)
        return f"?{text}" if text else ""

    def resized(self, picture: Image) -> Image:
        """Return a picture with the size of this reading (bilinear, antialiased)."""
        from PIL.Image import Resampling

        return picture if self.resize is None else picture.resize((self.resize, self.resize), Resampling.BILINEAR)

    def apply(self, path: Path, images: np.ndarray) -> np.ndarray:
        """Return images uint8 [N, H, W, C] of the file `path` with the size and channels of this reading, contiguous.

        Raises
        ------
        DamagedFileError
            If the reading has one channel and the images have colours.
        """
        from PIL import Image as Pillow

        channels = images.shape[3] if self.channels is None else self.channels
        if channels == 3 and images.shape[3] == 1:
            images = np.repeat(images, 3, axis=3)
        elif channels == 1 and images.shape[3] == 3:
            if not (images == images[..., :1]).all():
                raise DamagedFileError(path, "grey images (channels = 1)", "colours")
            images = images[..., :1]
        if self.resize is None:
            return np.ascontiguousarray(images)
        resized = np.empty((len(images), self.resize, self.resize, channels), np.uint8)
        for position, image in enumerate(images):
            picture = Pillow.fromarray(np.ascontiguousarray(image[..., 0] if channels == 1 else image))
            resized[position] = np.asarray(self.resized(picture)).reshape(resized.shape[1:])
        return resized


def split_reading(text: str) -> tuple[str, Reading]:
    """Return the path or name and the reading of `PATH`, `PATH?resize=N`, `PATH?channels=C` or `PATH?resize=N&channels=C`.

    Raises
    ------
    UsageError
        If the options are not valid.
    """
    match = _OPTIONS.search(text)
    if match is None:
        return text, Reading()
    fields = dict(parse_qsl(match["options"], keep_blank_values=True))
    unknown = [name for name in fields if name not in ("resize", "channels")]
    if unknown or any(not value.isascii() or not value.isdecimal() or len(value) > 9 for value in fields.values()):
        raise UsageError(f"?{match['options']}: expected options such as ?resize=32&channels=1")
    return text[: match.start()], Reading(**{name: int(value) for name, value in fields.items()})
