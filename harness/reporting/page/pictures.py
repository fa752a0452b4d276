"""Pictures of broken images: the image, its adversarial version, and the amplified difference, from left to right in one PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from harness import datasets
from harness.datasets.base import ImageSet
from harness.evaluation.outcomes import KEPT_IMAGES
from harness.runner.store import Store
from harness.threats import NORMS
from model_zoo.errors import UserError

# Transparent pixels between the three images.
GAP = 1


@dataclass(frozen=True)
class Picture:
    """One broken image: its index in the data set, class names, the component that broke it, the size of the change, and the PNG.

    `factor` is the amplification of the difference; `width` and `height` are the size of the PNG in pixels.
    """

    image: int
    label: str
    taken_for: str
    broken_by: str
    size: str
    factor: str
    width: int
    height: int
    png: bytes

    @property
    def alt(self) -> str:
        """A description of the picture in words."""
        return (
            f"{self.label}, taken for {self.taken_for}: image {self.image}, its adversarial version, and the difference times {self.factor}"
        )


class Gallery:
    """Pictures of the units of a store; there are none for data sets that are not on this machine.

    Parameters
    ----------
    store : Store
        The store that contains the first broken images of each unit.
    data_dir : Path, optional
        The folder of data sets, as for `harness.datasets.load`.
    """

    def __init__(self, store: Store, data_dir: Path | None = None) -> None:
        self._store, self._data_dir = store, data_dir
        self._sources: dict[str, _Source | None] = {}

    def pictures(self, dataset: str, outcomes: pd.DataFrame, units: Sequence[str]) -> list[Picture]:
        """Return pictures of the first `KEPT_IMAGES` images that these units broke, in their order; `outcomes` are the rows of those units.

        A unit whose images are damaged, or do not fit those of the data set, contributes no pictures.
        """
        source = self._source(dataset)
        pictures: list[Picture] = []
        for unit in units if source else ():
            try:
                broken = self._store.broken(unit)
            except UserError:
                continue
            if source is None or broken is None or broken[1].shape[2:] != source.images.images.shape[1:3]:
                continue
            rows = outcomes[outcomes["unit"] == unit].set_index("image")
            for image, change in zip(broken[0].tolist(), broken[1], strict=True):
                # These outcomes lack an image of this unit if another unit's outcome counts for it.
                if image in rows.index and image in source.places and len(pictures) < KEPT_IMAGES:
                    pictures.append(source.picture(image, change.astype(np.float32), rows.loc[image]))
        return pictures

    def _source(self, dataset: str) -> _Source | None:
        if dataset not in self._sources:
            try:
                self._sources[dataset] = _Source(datasets.load(dataset, self._data_dir))
            except UserError:
                self._sources[dataset] = None
        return self._sources[dataset]


@dataclass(frozen=True)
class _Source:
    images: ImageSet

    @cached_property
    def places(self) -> dict[int, int]:
        """Position of each image, by its index in the official order."""
        return {int(index): position for position, index in enumerate(self.images.index)}

    def picture(self, image: int, change: np.ndarray, row: pd.Series) -> Picture:
        clean = self.images.images[self.places[image]].astype(np.float32) / 255
        change = change.transpose(1, 2, 0)
        largest = float(np.abs(change).max())
        factor = 0.5 / largest if largest else 1.0
        height, width = clean.shape[:2]
        return Picture(
            image,
            self._name(row["label"]),
            self._name(row["adversarial_prediction"]),
            str(row["broken_by"]),
            size_text(row, change),
            f"{factor:.3g}",
            3 * width + 2 * GAP,
            height,
            strip([clean, clean + change, 0.5 + factor * change]),
        )

    def _name(self, label: int) -> str:
        return self.images.classes[label].replace("_", " ") if 0 <= label < len(self.images.classes) else f"class {label}"


def size_text(row: pd.Series, change: np.ndarray) -> str:
    """Return the norm of an outcome and the size of its change [H, W, C], in the norm's unit: "Linf 8/255", "L2 0.50".

    The size is the measured one if outcomes have a column for the norm; otherwise it is that of the rounded change that is stored.
    """
    norm = NORMS[row["norm"]]
    column = norm.name.lower()
    size = float(row[column] if column in row else norm.size_of_array(change[None].astype(np.float64))[0])
    return f"{norm.name} {size:.2f}" if norm.unit == 1 else f"{norm.name} {float(size / norm.unit):.2g}/{norm.unit.denominator}"


def strip(images: Sequence[np.ndarray]) -> bytes:
    """Return images, float [H, W, 3] clipped to [0, 1], from left to right as one PNG; the same images give the same bytes."""
    height, width, _ = images[0].shape
    canvas = np.zeros((height, len(images) * (width + GAP) - GAP, 4), np.uint8)
    for position, image in enumerate(images):
        left = position * (width + GAP)
        canvas[:, left : left + width, :3] = np.rint(255 * image.clip(0, 1))
        canvas[:, left : left + width, 3] = 255
    buffer = io.BytesIO()
    Image.fromarray(canvas).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
