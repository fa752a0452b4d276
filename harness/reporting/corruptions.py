"""Accuracy under corruptions: one row per model, with means over corruptions and severities; and numbers that RobustBench publishes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness import corruptions as registry
from harness import datasets
from harness.evaluation.counts import CLEAN, refuse_mixtures
from harness.evaluation.marks import union
from harness.evaluation.outcomes import near_constant
from harness.reporting.cells import Cell, accuracy_cell, published_cell
from harness.reporting.frames import CELLS, numbers_of, with_catalogue
from harness.statistics import clustered_interval
from model_zoo.threat import CORRUPTED

MEAN, WITHOUT_FROST = "mean", "mean without frost"
# The corruption whose published form needs photographs, see `harness.corruptions.weather.frost`.
FROST = "frost"
PUBLISHED_FILE = "robustbench-corruptions"
# A corruption and a severity, as in the columns `attack` and `radius`.
Condition = tuple[str, str]


def corrupted(outcomes: pd.DataFrame, models: pd.DataFrame, expected: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return one row per data set and model.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        Outcomes under corruptions in the frame of `harness.results`: `attack` is the corruption, `radius` the severity, and `robust` says
        whether the prediction on the corrupted image is right.
    models : pandas.DataFrame
        The frame of `model_zoo.catalogue.catalogue`, joined by `id`.
    expected : pandas.DataFrame, optional
        Planned numbers of images, as for `harness.reporting.frames.summary`. By default every model is expected to have all conditions that
        any model has.

    Returns
    -------
    pandas.DataFrame
        `dataset, norm, radius` ("corruptions" and ""), `model`, the columns of `models`, `near_constant`, `flags`, `conditions` (the
        number of pairs of corruption and severity), and the columns NAME, NAME_low, NAME_high, NAME_n and NAME_planned of a summary for
        "clean", "mean" (over all conditions), "mean without frost", each group of corruptions, each corruption ("fog") and each severity
        ("severity 3"). A mean over conditions has the interval of `harness.statistics.clustered_interval`, because the outcomes of one
        image under several corruptions are not independent. All numbers of a row are over the images that have met all conditions. `cells`
        holds the numbers as cells. Rows are ordered by data set and model; the frame is empty if there are no outcomes.
    """
    if outcomes.empty:
        return pd.DataFrame()
    refuse_mixtures(outcomes)
    rows = []
    for (dataset, model), part in outcomes.groupby(["dataset", "model"]):
        plan = _plan(outcomes[outcomes["dataset"] == dataset], expected, str(dataset), str(model))
        rows.append({"dataset": dataset, "norm": CORRUPTED, "radius": "", "model": model, **_row(part, *plan)})
    return with_catalogue(pd.DataFrame(rows), models)


def published(publications: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """Return RobustBench's rows of accuracy under corruptions for the kinds of data that were measured; empty if nothing was.

    They are of the official files of CIFAR-10-C and CIFAR-100-C.

    Parameters
    ----------
    publications : pandas.DataFrame
        The result of `model_zoo.publications.published`.
    measured : pandas.DataFrame
        The result of `corrupted`.
    """
    families = {datasets.describe(str(name)).family for name in measured["dataset"].unique()} if len(measured) else set()
    chosen = publications[(publications["file"] == PUBLISHED_FILE) & publications["dataset"].isin(families)]
    rows = []
    for _, row in chosen.sort_values(["dataset", "robust"], ascending=[True, False]).iterrows():
        cells = {CLEAN: published_cell(row["clean"], row["n"]), MEAN: published_cell(row["robust"], row["n"])}
        traits = {name: row[name] for name in ("weight_bits", "sparsity", "family", "note") if name in row and pd.notna(row[name])}
        origin = f"{row['source']}{f' @{row.version}' if pd.notna(row['version']) else ''}"
        shared = {"dataset": row["dataset"], "norm": CORRUPTED, "radius": "", "model": row["key"], "near_constant": False}
        rows.append(
            {**shared, **traits, "network": row["architecture"], CLEAN: row["clean"], MEAN: row["robust"], "origin": origin, CELLS: cells}
        )
    return pd.DataFrame(rows)


def _plan(outcomes: pd.DataFrame, expected: pd.DataFrame | None, dataset: str, model: str) -> tuple[list[Condition], int]:
    """Return a model's planned conditions, and the planned number of images; `outcomes` are those of the data set."""
    if expected is not None:
        is_planned = (expected["dataset"] == dataset) & (expected["model"] == model) & (expected["norm"] == CORRUPTED)
        planned = expected[is_planned]
        if len(planned):
            return _conditions(planned), int(planned["images"].max())
    return _conditions(outcomes), int(outcomes["image"].nunique())


def _conditions(frame: pd.DataFrame) -> list[Condition]:
    pairs = frame[["attack", "radius"]].drop_duplicates()
    return sorted((str(name), str(severity)) for name, severity in pairs.itertuples(index=False))


def _row(part: pd.DataFrame, conditions: Sequence[Condition], planned: int) -> dict[str, Any]:
    """Return the numbers of one model, whose outcomes are `part`."""
    wide = part.pivot(index="image", columns=["attack", "radius"], values="robust")
    right = wide.reindex(columns=pd.MultiIndex.from_tuples(conditions)).dropna().astype(bool)
    clean = part.drop_duplicates("image").set_index("image").reindex(right.index)
    is_right = clean["clean_prediction"] == clean["label"]
    cells = {CLEAN: accuracy_cell(int(is_right.sum()), len(is_right), planned)}
    for name, chosen in _selections(conditions):
        cells[name] = mean_cell(right[chosen].to_numpy(), planned)
    is_constant = bool(len(clean)) and near_constant(clean["clean_prediction"].astype(int).tolist())
    flags = ", ".join(union(part["flags"])) if "flags" in part else ""
    return {"near_constant": is_constant, "flags": flags, "conditions": len(conditions), CELLS: cells, **numbers_of(cells)}


def _selections(conditions: Sequence[Condition]) -> Iterable[tuple[str, list[Condition]]]:
    """Yield the name of each mean, and the conditions that it is over."""
    yield MEAN, list(conditions)
    yield WITHOUT_FROST, [condition for condition in conditions if condition[0] != FROST]
    names = dict.fromkeys(name for name, _ in conditions)
    group_of = {name: registry.get(name).group for name in names if name in registry.names()}
    for group in dict.fromkeys(group_of.values()):
        yield group, [condition for condition in conditions if group_of.get(condition[0]) == group]
    for name in names:
        yield name, [condition for condition in conditions if condition[0] == name]
    for severity in sorted({severity for _, severity in conditions}):
        yield f"severity {severity}", [condition for condition in conditions if condition[1] == severity]


def mean_cell(right: np.ndarray, planned: int) -> Cell:
    """Return the cell of a mean accuracy over conditions, from outcomes bool [images, conditions]; its value is unknown without any."""
    images, conditions = right.shape
    if not images or not conditions:
        return Cell("accuracy", n=images, planned=planned)
    return Cell("accuracy", float(right.mean()), clustered_interval(right.mean(axis=1).tolist(), conditions), n=images, planned=planned)
