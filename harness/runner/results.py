"""Stored outcomes as pandas frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import compute

from harness.evaluation.outcomes import COLUMNS
from harness.runner.documents import Manifest
from harness.runner.identity import canonical_json
from harness.runner.plan import Plan
from harness.runner.store import LABELS, Store, Stored, labels_of
from model_zoo.errors import DamagedFileError

# A `-sample` data set is separate, not a prefix of the full split, so blocks overlap only with blocks of the same data set.
IMAGE_KEY = ["protocol", "model", "model_sha256", "dataset", "norm", "radius", "attack", "seed", "image"]


@dataclass(frozen=True)
class UsableOutcomes:
    """Usable `outcomes` of a store, files that could not be read, and a line for every time that a unit was declared invalid."""

    outcomes: pd.DataFrame
    damaged: list[DamagedFileError]
    invalid: list[str]


def find(
    stored: Iterable[Stored | DamagedFileError], plan: Plan | None = None, allow_larger: bool = False, all_images: bool = False
) -> UsableOutcomes:
    """Return the usable outcomes among the results of `Store.read_all`: all of them, or those of a plan.

    Invalid units and units whose attack was at fault are left out. If two units cover the same image (runs with different numbers of
    images have different blocks), the one that the plan contains counts, then the one with more images, then the one with the smaller id.
    A plan is thus also served by runs of fewer images than it plans. With `allow_larger`, it is also served by runs of more, of
    which only the planned images are returned; with `all_images`, all images of matching runs are returned.

    With a plan, `model` and `family` are the plan's names. Models that share an id are distinguished by the column `model_sha256`.
    """
    cells = None if plan is None else _cells(plan)
    planned = set() if plan is None else set(plan.ids)
    damaged, tables, row_counts, labels_per_unit, invalid = [], [], [], [], []
    for item in stored:
        if isinstance(item, DamagedFileError):
            damaged.append(item)
            continue
        manifest = item.manifest
        is_planned = manifest.unit in planned
        table, plan_names = item.table, {}
        if cells is not None:
            planned_cell = cells.get(cell(manifest.identity))
            if planned_cell is None:
                continue
            plan_names = {name: planned_cell.labels[name] for name in ("model", "family")}
            selected = table if all_images else table.filter(compute.is_in(table["image"], pa.array(sorted(planned_cell.images))))
            if not selected.num_rows or (selected.num_rows < table.num_rows and not allow_larger):
                continue
            table = selected
        invalid += [f"{_describe(manifest)}: {reason}" for reason in _reasons(manifest)]
        if not manifest.at_fault and manifest.invalid is None:
            tables.append(table)
            row_counts.append(table.num_rows)
            labels_per_unit.append({**labels_of(item), **plan_names, "is_planned": is_planned, "block_images": item.table.num_rows})
    if not tables:
        return UsableOutcomes(pd.DataFrame(columns=[*LABELS, *COLUMNS]), damaged, invalid)
    labels = pd.DataFrame(labels_per_unit)
    repeated = labels.loc[labels.index.repeat(row_counts)].reset_index(drop=True)
    ascending = {"is_planned": False, "block_images": False, "unit": True}
    frame = pd.concat([repeated, pa.concat_tables(tables).to_pandas()], axis=1)
    frame = frame.sort_values(list(ascending), ascending=list(ascending.values()), kind="stable")
    frame = frame.drop_duplicates(IMAGE_KEY).drop(columns=["is_planned", "block_images"])
    return UsableOutcomes(frame.sort_values(IMAGE_KEY, kind="stable").reset_index(drop=True), damaged, invalid)


def outcomes(store: Store, plan: Plan | None = None) -> tuple[pd.DataFrame, list[DamagedFileError]]:
    """Return the outcomes that `find` returns, and an error for each file that could not be read."""
    usable = find(store.read_all(), plan)
    return usable.outcomes, usable.damaged


def _reasons(manifest: Manifest) -> list[str]:
    """Return why a unit's outcomes are invalid, or why it was run again."""
    if manifest.invalid is not None:
        return [manifest.invalid.reason]
    return [f"run again, because {earlier.reason}" for earlier in manifest.history]


def _describe(manifest: Manifest) -> str:
    labels = manifest.labels
    return f"{labels.model} · {labels.attack} · {labels.dataset}, {manifest.images} images"


@dataclass(frozen=True)
class _Cell:
    """Units of a plan that differ only in their images: their labels, and the indices of all their images."""

    labels: Mapping[str, Any]
    images: frozenset[int]


def _cells(plan: Plan) -> dict[str, _Cell]:
    cells: dict[str, _Cell] = {}
    for unit in plan.units:
        key = cell(unit.identity)
        earlier = cells[key].images if key in cells else frozenset()
        cells[key] = _Cell(unit.labels, earlier | frozenset(unit.block.index.tolist()))
    return cells


def without_covered(plan: Plan, usable: pd.DataFrame) -> Plan:
    """Return the plan without units whose images all have an outcome in `usable` (the outcomes that `find` returns for the plan)."""
    columns = ["model", "dataset", "norm", "radius", "attack"]
    covered = {} if usable.empty else {key: frozenset(images) for key, images in usable.groupby(columns)["image"]}
    units = [
        unit
        for unit in plan.units
        if not covered.get(tuple(unit.labels[name] for name in columns), frozenset()).issuperset(unit.block.index.tolist())
    ]
    return Plan(tuple(units), plan.omitted)


def cell(identity: Mapping[str, Any]) -> str:
    """Return a unit's identity without its block of images, as canonical JSON."""
    return canonical_json({**identity, "data": identity["data"]["dataset"]})


def agreement(left: pd.DataFrame, right: pd.DataFrame) -> tuple[int, int]:
    """Return on how many images two frames agree about robustness, and how many images both have; an image counts once per attack."""
    if left.empty or right.empty:
        return 0, 0
    common = left[[*IMAGE_KEY, "robust"]].merge(right[[*IMAGE_KEY, "robust"]], on=IMAGE_KEY)
    return int((common["robust_x"] == common["robust_y"]).sum()), len(common)


def select(
    frame: pd.DataFrame,
    model: str | Sequence[str] | None = None,
    attack: str | Sequence[str] | None = None,
    dataset: str | Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return the rows of the given models, attacks and data sets; None means any."""
    for column, names in (("model", model), ("attack", attack), ("dataset", dataset)):
        if names is not None and not frame.empty:
            frame = frame[frame[column].isin([names] if isinstance(names, str) else list(names))]
    return frame.reset_index(drop=True)


def read(root: Path) -> pd.DataFrame:
    """Return all usable outcomes of the store in the folder `root`."""
    return outcomes(Store(root))[0]
