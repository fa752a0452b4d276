"""Stored outcomes as pandas frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from harness.runner.store import Store
from model_zoo.errors import DamagedFileError

# A sample is the beginning of nothing else: blocks of one data set only overlap with blocks of the same name.
IMAGE_KEY = ["protocol", "model", "dataset", "norm", "radius", "attack", "seed", "image"]


def outcomes(store: Store, units: Iterable[str] | None = None) -> tuple[pd.DataFrame, list[DamagedFileError]]:
    """All usable outcomes of a store, or of the given units of it, and what could not be read.

    Units whose attack was at fault are left out. Where two units cover the same image (runs with different numbers of images have
    different blocks), the one with more images counts, then the smaller id.
    """
    wanted = None if units is None else set(units)
    frames, damaged = [], []
    for item in store.read_all():
        if isinstance(item, DamagedFileError):
            damaged.append(item)
        elif not item.manifest["at_fault"] and (wanted is None or item.manifest["unit"] in wanted):
            frames.append(item.frame.assign(block_images=len(item.frame)))
    if not frames:
        return pd.DataFrame(), damaged
    whole = pd.concat(frames, ignore_index=True).sort_values(["block_images", "unit"], ascending=[False, True], kind="stable")
    whole = whole.drop_duplicates(IMAGE_KEY).drop(columns="block_images")
    return whole.sort_values(IMAGE_KEY, kind="stable").reset_index(drop=True), damaged


def agreement(left: pd.DataFrame, right: pd.DataFrame) -> tuple[int, int]:
    """On how many images two frames agree whether they are robust, and how many both have; images are counted once an attack."""
    if left.empty or right.empty:
        return 0, 0
    both = left[[*IMAGE_KEY, "robust"]].merge(right[[*IMAGE_KEY, "robust"]], on=IMAGE_KEY)
    return int((both["robust_x"] == both["robust_y"]).sum()), len(both)


def select(
    frame: pd.DataFrame,
    model: str | Sequence[str] | None = None,
    attack: str | Sequence[str] | None = None,
    dataset: str | Sequence[str] | None = None,
) -> pd.DataFrame:
    """The rows of the given models, attacks and data sets; None means any."""
    for column, wanted in (("model", model), ("attack", attack), ("dataset", dataset)):
        if wanted is not None and not frame.empty:
            frame = frame[frame[column].isin([wanted] if isinstance(wanted, str) else list(wanted))]
    return frame.reset_index(drop=True)


def read(root: Path) -> pd.DataFrame:
    """All usable outcomes below `root`."""
    return outcomes(Store(root))[0]
