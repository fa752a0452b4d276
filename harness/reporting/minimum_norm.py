"""Distances to the nearest adversarial examples that minimum-norm attacks found, per image and per model."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd

from harness import attacks
from harness.evaluation.counts import CLEAN, GROUP
from harness.evaluation.outcomes import COLUMNS
from harness.reporting.cells import Cell, accuracy_cell
from harness.reporting.frames import CELLS, groups_of
from harness.statistics import median_interval
from harness.threats import NORMS

# Prefix of the columns that contain median distances.
DISTANCE = "distance "
# Field of the distances that are the smallest over all attacks, and of the accuracy at the radius that follows from them.
NEAREST, ROBUST = "nearest", "robust"


def distances(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return the distances that minimum-norm attacks found, one row per image, one column per attack.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        Outcomes of one model under one threat model, with a column for the distance in that norm.

    Returns
    -------
    pandas.DataFrame
        In units of the [0, 1] pixel range: 0 if the model is wrong without an attack, infinite if an attack found no adversarial example.
        Only images that all of these attacks have met. Empty if there is no such attack, or outcomes have no column for the norm.
    """
    names = [name for name in sorted(outcomes["attack"].unique()) if name in attacks.names() and attacks.get(name).minimum_norm]
    column = str(outcomes["norm"].iloc[0]).lower()
    if column not in COLUMNS or column not in outcomes or not names:
        return pd.DataFrame()
    rows = outcomes[outcomes["attack"].isin(names)]
    sizes = (
        rows[column].where(rows["adversarial_prediction"] != rows["label"], np.inf).where(rows["clean_prediction"] == rows["label"], 0.0)
    )
    return rows.assign(distance=sizes).pivot(index="image", columns="attack", values="distance").dropna()


def minimum_norm(outcomes: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Return one row per model of a summary that a minimum-norm attack has met.

    Parameters
    ----------
    outcomes, summary : pandas.DataFrame
        The input and the result of `harness.reporting.frames.summary`.

    Returns
    -------
    pandas.DataFrame
        `dataset, norm, radius, model`, columns of the summary, `n` (images that all of these attacks have met), and the columns "distance
        NAME", NAME an attack or `NEAREST` (the smallest over the attacks): the median over the images that are right without an attack, in
        the norm's unit. `cells` holds these, clean accuracy, and the share of images whose nearest example is outside the radius, `ROBUST`.
    """
    rows: list[dict[str, Any]] = []
    for key, part in groups_of(summary):
        group = outcomes[(outcomes[GROUP] == list(key)).all(axis=1)]
        norm = NORMS[key[1]]
        for _, row in part.iterrows():
            nearest = distances(group[group["model"] == row["model"]])
            if not len(nearest):
                continue
            nearest[NEAREST] = nearest.min(axis=1)
            right = nearest[nearest[NEAREST] > 0]
            flags = row[CELLS]["worst"].flags
            medians = {DISTANCE + name: _median_cell(right[name] / float(norm.unit), flags) for name in map(str, nearest)}
            limit = float(Fraction(key[2])) + norm.tolerance
            counts = {CLEAN: len(right), ROBUST: int((right[NEAREST] > limit).sum())}
            cells = medians | {name: accuracy_cell(count, len(nearest), flags=flags * (name == ROBUST)) for name, count in counts.items()}
            verdict_columns = [name for name in ("verdict", "verdict_reasons") if name in row]
            identity = {name: row[name] for name in ("model", "near_constant", *verdict_columns)}
            numbers = {name: cell.value for name, cell in cells.items()}
            rows.append({**dict(zip(GROUP, key, strict=True)), **identity, CELLS: cells, **numbers, "n": len(nearest)})
    return pd.DataFrame(rows)


def _median_cell(values: pd.Series, flags: tuple[str, ...]) -> Cell:
    """Return the cell of a median with its distribution-free 95 % interval; unknown if there are no values."""
    if not len(values):
        return Cell("distance")
    return Cell("distance", float(np.median(values)), median_interval(values.tolist()), n=len(values), flags=flags)
