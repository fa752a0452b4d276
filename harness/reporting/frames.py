"""Wide frames for tables and figures: one row per model, with its cells and the same numbers in columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from harness import attacks
from harness.evaluation.counts import CLEAN, GROUP, WORST, group_order, long_frame, planned_images
from harness.reporting.cells import Cell, accuracy_cell

# Column of the cells of a row: a dictionary of `Cell` by field. CSV and JSON leave it out.
CELLS = "cells"
# Endings of the columns that hold a cell's numbers: the value, its interval, and how many images there are and should be.
ENDS = ("", "_low", "_high", "_n", "_planned")
# Accuracies of `harness.runner.diagnoses.diagnosed`.
PROBES = ("ce", "margin", "descent", "square", "noise", "transfer", "large")


def summary(
    outcomes: pd.DataFrame, models: pd.DataFrame, expected: pd.DataFrame | None = None, verdicts: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return one row per threat model and model: a pivot of the long frame (`harness.evaluation.counts.long_frame`).

    Parameters
    ----------
    outcomes : pandas.DataFrame
        The frame of `harness.results`: one row per image, model, threat model and attack.
    models : pandas.DataFrame
        The frame of `model_zoo.catalogue.catalogue`, joined by `id`. If it has a boolean column `near_constant`, a model is near-constant
        if that column or its outcomes say so.
    expected : pandas.DataFrame, optional
        Planned numbers of images, with the columns of `CELL` and `images`. A cell with fewer outcomes is partial, and so is a model's worst
        case if one of its cells is. By default every model of a threat model is expected to have all attacks, on the largest number of
        images that any model has.
    verdicts : pandas.DataFrame, optional
        The frame of `harness.runner.diagnoses.diagnosed`: `verdict, verdict_reasons, verdict_images` are added to the rows of the same data
        set and threat model.

    Returns
    -------
    pandas.DataFrame
        `dataset, norm, radius, model`, the columns of `models`, `near_constant`, `flags` (marks of the units, see
        `harness.evaluation.marks`, "" for none), `headline` (the name of the number `worst`, see `headline`), and for `clean`, each attack
        and `worst` the columns NAME (accuracy as a fraction), NAME_low, NAME_high (95 % Wilson), NAME_n, and NAME_planned. The worst case
        is pointwise over the attacks of that threat model; errors on clean images count as broken. All numbers of a row are over the same
        images, those that all attacks have met, so that they can be compared; if there are no such images, each number is over the images
        of its attack. The column `cells` holds the same numbers as a dictionary of `Cell` by NAME. Rows are ordered by data set, norm,
        radius (as a number) and model.

    Raises
    ------
    UserError
        If there are no outcomes, if outcomes of several protocol versions or of two models with the same id are mixed, or if an image
        occurs twice in a cell.
    """
    planned = planned_images(outcomes) if expected is None else expected
    frame = with_catalogue(_wide(long_frame(outcomes, planned), planned), models)
    if verdicts is None:
        return frame
    judged = verdicts.rename(columns={"id": "model"})[["model", *GROUP, "verdict", "verdict_reasons", "verdict_images"]]
    return frame.merge(judged, on=["model", *GROUP], how="left", validate="one_to_one")


def diagnostics(diagnosed: pd.DataFrame) -> pd.DataFrame:
    """Return the frame of `harness.runner.diagnoses.diagnosed` as rows of a table: `id` is called `model`, and `cells` are added."""
    frame = diagnosed.rename(columns={"id": "model"})
    frame[CELLS] = pd.Series([_probe_cells(row) for _, row in frame.iterrows()], index=frame.index, dtype=object)
    return frame


def headline(norm: str, names: Sequence[str]) -> str:
    """Return the name of a number over these attacks: "worst case", or without APGD, which leaves fewer images, "after cw-l2".

    Under Linf, every number is called a worst case.
    """
    specs = [attacks.get(name) for name in names if name in attacks.names()]
    return "worst case" if norm == "Linf" or any(map(attacks.uses_apgd, specs)) else f"after {', '.join(names)}"


def full_headline(headline: str, names: Sequence[str]) -> str:
    """Return a headline with the attacks that it is over: "worst case of pgd, cw-linf", "after cw-l2"."""
    return f"{headline} of {', '.join(names)}" if headline == "worst case" else headline


def attacks_of(frame: pd.DataFrame) -> list[str]:
    """Return the names of the attacks that a summary has numbers for, in the order of its columns."""
    names = {name for cells in frame[CELLS] for name, cell in cells.items() if cell.kind == "accuracy"} - {CLEAN, WORST}
    columns = list(frame.columns)
    return sorted(names, key=lambda name: columns.index(f"{name}_n"))


def groups_of(frame: pd.DataFrame) -> Iterable[tuple[tuple[str, str, str], pd.DataFrame]]:
    """Yield each threat model (dataset, norm, radius) of a summary and its rows, without the columns that are empty in all of them."""
    for (dataset, norm, radius), part in sorted(frame.groupby(GROUP, sort=False), key=lambda item: group_order(item[0])):
        yield (str(dataset), str(norm), str(radius)), part.dropna(axis="columns", how="all")


def with_catalogue(frame: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """Join the catalogue of models to rows by model; a model is near-constant if the rows or the catalogue say so."""
    catalogue = models.rename(columns={"id": "model", "near_constant": "listed_as_constant"})
    joined = frame.merge(catalogue, on="model", how="left", validate="many_to_one")
    if "listed_as_constant" in joined:
        joined["near_constant"] |= joined.pop("listed_as_constant").eq(True)
    return joined


def numbers_of(cells: Mapping[str, Cell]) -> dict[str, Any]:
    """Return the numbers of cells by column: NAME with each of `ENDS`."""
    values = {name: (cell.value, *(cell.interval or (None, None)), cell.n, cell.planned) for name, cell in cells.items()}
    return {f"{name}{end}": value for name, numbers in values.items() for end, value in zip(ENDS, numbers, strict=True)}


def _wide(long: pd.DataFrame, planned: pd.DataFrame) -> pd.DataFrame:
    """Return one row per threat model and model of a long frame, with the cells of its measures and their numbers in columns."""
    rows: list[dict[str, Any]] = []
    for key, part in long.groupby([*GROUP, "model"], sort=False):
        group, measures = list(key[:-1]), part.to_dict("records")
        planned_attacks = planned.loc[(planned[GROUP] == group).all(axis=1), "attack"].unique().tolist()
        # The last measure is the worst case, whose flags are those of all units.
        shared = {"near_constant": measures[-1]["near_constant"], "flags": measures[-1]["flags"]}
        cells: dict[str, Cell] = {}
        for measure in measures:
            name = measure["measure"]
            # Flags are about attacks, so clean accuracy has none.
            flags = tuple(measure["flags"].split(", ")) if measure["flags"] and name != CLEAN else ()
            cells[name] = accuracy_cell(measure["successes"], measure["n"], measure["planned"], flags)
        identity = dict(zip([*GROUP, "model"], key, strict=True))
        rows.append({**identity, "headline": headline(str(group[1]), planned_attacks), **shared, CELLS: cells, **numbers_of(cells)})
    return pd.DataFrame(rows)


def _probe_cells(row: pd.Series) -> dict[str, Cell]:
    probes = [name for name in PROBES if pd.notna(row.get(name))]
    return {name: accuracy_cell(round(row[name] * row["images"]), int(row["images"])) for name in probes}
