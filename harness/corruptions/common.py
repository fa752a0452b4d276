"""What all corruptions share: constants per severity, seeded random numbers per image, and rounding to pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness import plugins
from harness.datasets.base import ImageSet
from model_zoo.errors import UsageError
from model_zoo.plugins import source_sha256
from model_zoo.threat import CORRUPTED, SEVERITIES

# Height, width and channels of the images that the constants are for.
SHAPE = (32, 32, 3)


@dataclass(frozen=True)
class Corruption:
    """A change of images in five severities.

    Attributes
    ----------
    name : str
        "gaussian-noise".
    title : str
        Title for readers.
    group : str
        "noise", "blur", "weather" or "digital".
    function : callable
        Called as function(image, generator, *constants) with an image uint8 [H, W, C] and a `numpy.random.Generator`; returns the
        corrupted image, uint8 of the same shape. It must not write to its input.
    constants : tuple of tuple of float
        The further arguments of `function`, by severity, the mildest first.
    version : int
        Part of every unit's identity: changes when corrupted images change.
    """

    name: str
    title: str
    group: str
    function: Callable[..., np.ndarray]
    constants: tuple[tuple[float, ...], ...]
    version: int = 1

    def identity(self, severity: int) -> dict[str, Any]:
        """Everything that decides a corrupted image besides the image and the seed, in the form of an attack's identity.

        For a corruption from a plug-in, the hash of its source is part of the identity.
        """
        plugin_sha256 = source_sha256(plugins.CORRUPTIONS.origin(self.name))
        return {
            "name": self.name,
            "adapter": "corruption",
            "adapter_version": self.version,
            "norm": CORRUPTED,
            "parameters": {"constants": list(self.constants[severity - 1])},
            **({} if plugin_sha256 is None else {"adapter_source": plugin_sha256}),
        }

    def apply(self, image: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
        """Return the corrupted image, uint8 [H, W, C]."""
        return self.function(image, generator, *self.constants[severity - 1])


def corrupt(block: ImageSet, corruption: Corruption, severity: int, seed: int = 0) -> ImageSet:
    """Return the images of `block` with a corruption of a severity from 1 to 5.

    The random numbers of an image depend on the data set's name, the image's index, the corruption, the severity and `seed` (any whole
    number). An image is thus corrupted in the same way whatever other images are in the block, and for every model.

    Raises
    ------
    UsageError
        If there is no such severity, or the constants are not for images of this size.
    """
    if severity not in SEVERITIES:
        raise UsageError(f"a severity is a whole number from 1 to {len(SEVERITIES)}, not {severity}")
    check_images(block)
    images = [
        corruption.apply(image, severity, image_generator(block.name, int(index), corruption.name, severity, seed))
        for image, index in zip(block.images, block.index, strict=True)
    ]
    return replace(block, images=np.stack(images) if images else block.images)


def check_images(block: ImageSet) -> None:
    """Raise a UsageError if the corruptions' constants are not for images of this size."""
    if block.images.shape[1:] != SHAPE:
        height, width, channels = block.images.shape[1:]
        raise UsageError(f"{block.name}: the corruptions are for images of 3 x 32 x 32, not of {channels} x {height} x {width}")


def image_generator(dataset: str, index: int, corruption: str, severity: int, seed: int) -> np.random.Generator:
    """Return the generator of the random numbers of one corrupted image."""
    digest = hashlib.sha256("\n".join((dataset, str(index), corruption, str(severity), str(seed))).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def to_unit(image: np.ndarray) -> np.ndarray:
    """Return pixels uint8 as float64 in [0, 1]."""
    return image / 255.0


def to_pixels(values: np.ndarray) -> np.ndarray:
    """Return values in the [0, 1] range as uint8: clipped, and rounded down as in CIFAR-10-C."""
    return (np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)
