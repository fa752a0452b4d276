"""Stored outcomes as pandas frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.runner.identity import canonical_json
from harness.runner.plan import Plan
from harness.runner.store import Store
from model_zoo.errors import DamagedFileError

# A sample is the beginning of nothing else: blocks of one data set only overlap with blocks of the same name.
IMAGE_KEY = ["protocol", "model", "dataset", "norm", "radius", "attack", "seed", "image"]


def outcomes(store: Store, plan: Plan | None = None) -> tuple[pd.DataFrame, list[DamagedFileError]]:
    """All usable outcomes of a store, or those that a plan asks for, and what could not be read.

    Units whose attack was at fault are left out. Where two units cover the same image (runs with different numbers of images have
    different blocks), the one that the plan names counts, then the one with more images, then the smaller id. A plan is thus also served by
    runs of fewer images than it asks for.
    """
    wanted = None if plan is None else _images_by_cell(plan)
    planned = set() if plan is None else set(plan.ids)
    frames, damaged = [], []
    for item in store.read_all():
        if isinstance(item, DamagedFileError):
            damaged.append(item)
            continue
        asked = item.manifest["unit"] in planned
        if wanted is not None and not asked:
            images = wanted.get(_cell(item.manifest["identity"]), frozenset())
            if not images.issuperset(item.frame["image"]):
                continue
        if not item.manifest["at_fault"]:
            frames.append(item.frame.assign(asked=asked, block_images=len(item.frame)))
    if not frames:
        return pd.DataFrame(), damaged
    order = {"asked": False, "block_images": False, "unit": True}
    whole = pd.concat(frames, ignore_index=True).sort_values(list(order), ascending=list(order.values()), kind="stable")
    whole = whole.drop_duplicates(IMAGE_KEY).drop(columns=["asked", "block_images"])
    return whole.sort_values(IMAGE_KEY, kind="stable").reset_index(drop=True), damaged


def _images_by_cell(plan: Plan) -> dict[str, frozenset[int]]:
    """The images that a plan asks for, by what their units have in common."""
    found: dict[str, frozenset[int]] = {}
    for unit in plan.units:
        cell = _cell(unit.identity)
        found[cell] = found.get(cell, frozenset()) | frozenset(unit.block.index.tolist())
    return found


def _cell(identity: Mapping[str, Any]) -> str:
    """A unit's identity but for its block of images."""
    return canonical_json({**identity, "data": identity["data"]["dataset"]})


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
