"""Comparison of published and measured numbers: one row per model that was published or is in the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import pandas as pd

from harness import datasets
from harness.evaluation.counts import CLEAN
from harness.reporting.cells import Cell, published_cell
from harness.reporting.frames import CELLS, ENDS
from harness.statistics import Proportion, unpaired_difference

# Two rows must agree in all of these to be about the same kind of model; a difference is computed only then.
SAME = ("dataset", "norm", "radius", "method", "family", "network", "keep_ratio")
# They must also agree in these, if both rows have a value.
SAME_WHERE_KNOWN = ("training", "allocation_power", "weight_init", "last_batch_norm")
DESCRIBED = (*SAME, *SAME_WHERE_KNOWN, "structure", "sparsity", "weight_bits")
MEASURED = ("model", "bytes", "seed", "near_constant", "verdict", "verdict_reasons")
TAXONOMY = ("pruned_when", "pruned_scored", "pruned_structured", "pruned_scope")


def literature(
    summary: pd.DataFrame, published: pd.DataFrame, sections: Sequence[tuple[str, Mapping[str, Any]]], files: Sequence[str], attack: str
) -> pd.DataFrame:
    """Return one row per model of a section; a published and a measured row are joined if they are about the same kind of model.

    A measured row that agrees with several published rows is joined with none of them.

    Parameters
    ----------
    summary : pandas.DataFrame
        The result of `harness.reporting.frames.summary`, with the columns of `harness.reporting.traits.with_traits`.
    published : pandas.DataFrame
        The result of `model_zoo.publications.published`.
    sections : sequence of (str, mapping)
        A heading, and the conditions for its rows: a value or a list of values per column of the result; a text may be a pattern
        ("*-s29-*"), or begin with "!" for a value that the column must not have ("!liu2022"). A row is put into the first section that it
        fits.
    files : sequence of str
        The files of published numbers to use.
    attack : str
        The attack whose numbers are compared.

    Returns
    -------
    pandas.DataFrame
        `section`, `dataset` (the whole data set, also for a sample of it), `norm, radius`, the columns that describe the model, `source`
        and `origin` (the source and its version, without the location in it); `published_clean`, `published`, `published_n`; `clean` and
        `measured` with the suffixes of a summary; `difference, difference_low, difference_high`: measured minus published, a fraction, with
        Newcombe's interval, or with the interval of the measurement alone if the published n is unknown. `cells` holds the same numbers, as
        in a summary. Sections keep their order; within a section the best row is first.
    """
    published_rows = _published_rows(published, files, attack)
    measured_rows = _measured_rows(summary, attack)
    matched: set[int] = set()
    rows = []
    for measured_row in measured_rows:
        matches = [number for number, published_row in enumerate(published_rows) if _is_same_kind(measured_row, published_row)]
        number = matches[0] if len(matches) == 1 else None
        matched |= set() if number is None else {number}
        joined = published_rows[number] if number is not None else {CELLS: {}}
        rows.append({**joined, **measured_row, CELLS: {**joined[CELLS], **measured_row[CELLS]}})
    rows += [published_row for number, published_row in enumerate(published_rows) if number not in matched]
    in_sections = [(number, row) for row in rows if (number := _section(row, sections)) is not None]
    in_sections.sort(key=lambda item: (item[0], -_best(item[1]), str(item[1].get("model", ""))))
    frame = pd.DataFrame([{"section": sections[number][0], **_with_difference(row)} for number, row in in_sections])
    return frame if frame.empty or "model" in frame else frame.assign(model=None)


def _published_rows(published: pd.DataFrame, files: Sequence[str], attack: str) -> list[dict[str, Any]]:
    chosen = published[published["file"].isin(files) & (published["attack"] == attack) & published["radius"].notna()]
    rows = []
    for _, row in chosen.rename(columns={"architecture": "network"}).iterrows():
        traits = {name: row[name] for name in DESCRIBED if pd.notna(row[name])}
        numbers = {"published_clean": row["clean"], "published": row["robust"], "published_n": row["n"]}
        version = f" @{row['version']}" if pd.notna(row["version"]) else ""
        source, origin = f"{row['source']}, {row['location']}{version}", f"{row['source']}{version}"
        rows.append({**traits, **numbers, "source": source, "origin": origin, "near_constant": False})
        rows[-1][CELLS] = {name: published_cell(numbers[name], row["n"]) for name in ("published_clean", "published")}
    return rows


def _measured_rows(summary: pd.DataFrame, attack: str) -> list[dict[str, Any]]:
    if f"{attack}_n" not in summary:
        return []
    rows = []
    for _, row in summary[summary[f"{attack}_n"] > 0].iterrows():
        traits = {name: row[name] for name in (*DESCRIBED, *MEASURED, *TAXONOMY) if name in row and pd.notna(row[name])}
        numbers = {f"clean{end}": row[f"clean{end}"] for end in ENDS} | {f"measured{end}": row[f"{attack}{end}"] for end in ENDS}
        rows.append(
            {**traits, **numbers, "dataset": datasets.describe(str(row["dataset"])).family, "worst_planned": row[f"{attack}_planned"]}
        )
        rows[-1][CELLS] = {CLEAN: row[CELLS][CLEAN], "measured": row[CELLS][attack]}
    return rows


def _is_same_kind(left: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    shared = [name for name in SAME_WHERE_KNOWN if name in left and name in right]
    return bool(left.get("method")) and all(left.get(name) == right.get(name) for name in (*SAME, *shared))


def _section(row: Mapping[str, Any], sections: Sequence[tuple[str, Mapping[str, Any]]]) -> int | None:
    return next(
        (number for number, (_, conditions) in enumerate(sections) if all(_fits(row.get(name), conditions[name]) for name in conditions)),
        None,
    )


def _fits(value: Any, condition: Any) -> bool:
    if isinstance(condition, list):
        return any(_fits(value, alternative) for alternative in condition)
    if isinstance(condition, str) and condition.startswith("!"):
        return not _fits(value, condition[1:])
    return fnmatchcase(value, condition) if isinstance(value, str) and isinstance(condition, str) else bool(value == condition)


def _best(row: Mapping[str, Any]) -> float:
    value = row.get("measured", row.get("published"))
    return -1.0 if value is None or pd.isna(value) else float(value)


def _with_difference(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row with the difference between its measured and its published number, if it has both."""
    if "measured" not in row or pd.isna(row.get("published")):
        return dict(row)
    cell: Cell = row[CELLS]["measured"]
    published_n = row["published_n"]
    measured = Proportion(cell.successes or 0, cell.n or 0)
    reference = row["published"] if pd.isna(published_n) else Proportion(round(row["published"] * int(published_n)), int(published_n))
    difference, low, high = unpaired_difference(measured, reference)
    cells = {**row[CELLS], "difference": Cell("difference", difference, (low, high), n=cell.n, planned=cell.planned, flags=cell.flags)}
    return {**row, CELLS: cells, "difference": difference, "difference_low": low, "difference_high": high}
