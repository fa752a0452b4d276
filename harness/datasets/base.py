"""Types of data sets: images as they are on disk, with labels and each image's position in the official order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from harness.datasets.reading import Reading
from model_zoo.errors import RefusedError, UsageError

if TYPE_CHECKING:
    import torch

Rows: TypeAlias = slice | np.ndarray


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images, in order.

    Attributes
    ----------
    name : str
        Registry name of the data set.
    images : np.ndarray
        uint8 [N, H, W, C], C = 3 (RGB) or 1 (grey).
    labels : np.ndarray
        int64 [N], values below the number of classes.
    index : np.ndarray
        int64 [N], position in the data set's official order.
    classes : tuple of str
        Class names, in the order of the labels.
    notes : tuple of str
        What users should know about how their files were read, one sentence each; empty for data sets of this package.

    Raises
    ------
    RefusedError
        If an array has the wrong type or shape, or a label is not a class.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    index: np.ndarray
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[-1] not in (1, 3) or self.images.dtype != np.uint8:
            raise RefusedError(
                f"{self.name}: images uint8 [N, H, W, 3] or [N, H, W, 1] expected, found {self.images.dtype} {list(self.images.shape)}"
            )
        if self.labels.shape != self.images.shape[:1] or self.index.shape != self.images.shape[:1]:
            raise RefusedError(f"{self.name}: {len(self.images)} images but {len(self.labels)} labels and {len(self.index)} indices")
        if self.labels.dtype != np.int64 or self.index.dtype != np.int64:
            raise RefusedError(f"{self.name}: labels and index int64 expected, found {self.labels.dtype} and {self.index.dtype}")
        if len(self.labels) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.classes):
            raise RefusedError(f"{self.name}: a label is outside the {len(self.classes)} classes")

    def __len__(self) -> int:
        return len(self.images)

    def slice(self, start: int, stop: int) -> ImageSet:
        """Return images `start` to `stop` (exclusive) in this set's order."""
        return self.take(slice(start, stop))

    def take(self, rows: Rows) -> ImageSet:
        """Return the images at `rows`: a slice, a mask bool [N], or positions."""
        return replace(self, images=self.images[rows], labels=self.labels[rows], index=self.index[rows])

    def blocks(self, size: int) -> list[ImageSet]:
        """Return the images in blocks of `size`; the last one may be shorter."""
        return [self.slice(start, start + size) for start in range(0, len(self), size)]

    def first(self, n: int) -> ImageSet:
        """Return the first n images; UsageError unless n is from 1 to the number of images."""
        if not 1 <= n <= len(self):
            raise UsageError(f"{self.name} has {len(self)} images: n must be from 1 to {len(self)}, not {n}")
        return self.slice(0, n)

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the images, float32 [N, C, H, W] in [0, 1] and contiguous, and the labels, int64 [N]."""
        import torch

        # Copied, because torch warns of arrays that cannot be written to.
        pixels = torch.from_numpy(self.images.transpose(0, 3, 1, 2).copy())
        return pixels.float().div_(255.0), torch.from_numpy(self.labels.astype(np.int64))

    @cached_property
    def sha256(self) -> str:
        """Hash of shape, pixels, labels and indices, independent of memory layout; the block hash in a unit's identity."""
        digest = hashlib.sha256(f"{self.images.shape}".encode())
        for array, kind in ((self.images, "u1"), (self.labels, "<i8"), (self.index, "<i8")):
            digest.update(np.ascontiguousarray(array, dtype=kind).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class DataKind:
    """Kind of images that models are trained on; several data sets may be of one kind, such as a split and a sample of it.

    Attributes
    ----------
    name : str
        "cifar10".
    classes : int or None
        Number of classes; None if it depends on the files.
    shape : tuple of int or None
        Channels, height and width; None if it depends on the files.
    radii : mapping
        The protocol's radius for each norm, by name; for norms that are absent, `harness.threats.Norm.default_radius` applies.
    normalisation : str
        Usual input normalisation of models, a key of `model_zoo.classifier.NORMALISATIONS`.
    sample : str or None
        Data set of this kind that is used if a few images are needed; None if there is none.
    mirrors : bool
        Whether the mirror image of an image has the same class, so that training may flip images.
    """

    name: str
    classes: int | None = None
    shape: tuple[int, int, int] | None = None
    radii: Mapping[str, Fraction] = field(default_factory=dict, hash=False)
    normalisation: str = "none"
    sample: str | None = None
    mirrors: bool = True


@dataclass(frozen=True)
class DatasetInfo:
    """Description of a data set, available without loading it.

    Attributes
    ----------
    kind : DataKind
        What models for it were trained on: the same for a sample and the whole split.
    size : int or None
        Number of images; None if it depends on the files.
    present : callable
        Returns whether the data set is on this machine, given the data folder.
    where : str
        What to do if it is not.
    """

    name: str
    title: str
    kind: DataKind
    size: int | None
    present: Callable[[Path], bool]
    where: str

    @property
    def classes(self) -> int | None:
        """Number of classes; None if it depends on the files."""
        return self.kind.classes

    @property
    def family(self) -> str:
        """Name of the kind."""
        return self.kind.name


@dataclass(frozen=True)
class Source:
    """One entry of a module's `SOURCES`: the description of a data set, and how to read it.

    Attributes
    ----------
    info : DatasetInfo
        The description.
    read : callable
        Called as read(data_dir, n, download), returns at least the first n images (all if n is None).
    read_training : callable or None
        Called as read_training(data_dir, download), returns the training split; None if training uses the images of `read`.
    training_images : int or None
        Number of images of the training split; None if it depends on the files.
    read_as : callable or None
        Returns this data set with the size and channels of a reading; None if its images are only read as they are.
    """

    info: DatasetInfo
    read: Callable[[Path, int | None, bool], ImageSet]
    read_training: Callable[[Path, bool], ImageSet] | None = None
    training_images: int | None = None
    read_as: Callable[[Reading], Source] | None = None
