"""Tables from specifications (one TOML file each in the folder `tables`): cells in rows and columns, without a format of output."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict

from harness.evaluation.counts import CLEAN
from harness.plugins import TABLES
from harness.reporting.ablations import VARIED
from harness.reporting.cells import Cell, Format, flag_notes, value_cell, verdict_notes
from harness.reporting.components import BY
from harness.reporting.frames import CELLS, attacks_of, groups_of
from harness.reporting.methods import method_name
from harness.reporting.minimum_norm import DISTANCE
from model_zoo.documents import read_toml, validated

# Formats of columns that are left out if no row has a number, and whose cells are empty without one.
BLANK = ("published", "difference", "count")
# Settings that all comparisons with the literature share.
LITERATURE_DEFAULTS: dict[str, Any] = {
    "note": "Published numbers are printed as in their source, with the interval of a proportion if the number of images is known; "
    "measured numbers are from this store. difference: measured less published, in points, if both are about the same kind of model.",
    "group": "section",
    "columns": [
        {"heading": heading, "field": field, "format": form}
        for heading, field, form in (
            ("models", "section", "text"),
            ("network", "network", "text"),
            ("method", "method", "text"),
            ("training", "training", "text"),
            ("sparsity, %", "sparsity", "percent"),
            ("p", "allocation_power", "number"),
            ("weight bits", "weight_bits", "integer"),
            ("bytes", "bytes", "integer"),
            ("clean, published", "published_clean", "published"),
            ("robust, published", "published", "published"),
            ("n, published", "published_n", "count"),
            ("clean, measured", "clean", "accuracy"),
            ("robust, measured", "measured", "accuracy"),
            ("n, measured", "measured_n", "count"),
            ("difference", "difference", "difference"),
            ("measured model", "model", "text"),
        )
    ],
}


class Column(BaseModel):
    """One column: its heading, the field of the frame ("*" for one column per attack or component), and the format of its values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    heading: str
    field: str
    format: Format


class Section(BaseModel):
    """A section of a comparison with the literature: its heading, and the conditions for its rows (see `harness.reporting.literature`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    heading: str
    where: dict[str, Any]


class TableSpec(BaseModel):
    """A table: title, note below it, columns, and the fields by which its rows are sorted, best first (if empty, the order of the frame).

    `frame` names the kind of rows: the models of a "summary", their "ablations", the "components" that broke their images, their
    "diagnostics", their "minimum-norm" distances, their accuracy under "corruptions" or that of others ("published corruptions"), or a
    comparison with the "literature" (the `sections`, under `attack`, with the numbers of the `published` files).
    Adjacent rows with the same text in the column `group` form a group, and the text is written once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    note: str
    sort: list[str] = []
    columns: list[Column]
    frame: Literal[
        "summary", "ablations", "components", "diagnostics", "literature", "minimum-norm", "corruptions", "published corruptions"
    ] = "summary"
    group: str | None = None
    sections: tuple[Section, ...] = ()
    published: tuple[str, ...] = ()
    attack: str = "autoattack"


@dataclass(frozen=True)
class Table:
    """A table whose cells are laid out; `harness.reporting.renderers` writes it."""

    caption: str
    headings: list[str]
    rows: list[list[Cell]]
    numeric: list[bool]
    notes: list[str]
    starts: frozenset[int] = frozenset()
    """Indices of the rows that begin a new group."""
    fields: tuple[str, ...] = ()
    """The field of the frame that each column shows."""


def names() -> list[str]:
    """Return the names of all tables, sorted."""
    return TABLES.names()


def get(name: str) -> TableSpec:
    """Return the table called `name`, or that of a TOML file; raises an UnknownNameError if there is none."""
    return TABLES.get(name)


def read_table(path: Path) -> TableSpec:
    """Read a table's specification; raises a DamagedFileError if the file is not one."""
    fields = read_toml(path, "a table")
    defaults = LITERATURE_DEFAULTS if fields.get("frame") == "literature" else {}
    return validated(TableSpec, {"name": path.stem, **defaults, **fields}, path, "a table")


def render(spec: TableSpec, frame: pd.DataFrame) -> list[Table]:
    """Return one table per threat model of a frame, which must be of the kind that the specification names."""
    tables = []
    for (dataset, norm, radius), part in groups_of(frame) if len(frame) else ():
        columns: list[Column] = []
        for column in spec.columns:
            if column.field == "*":
                columns += _expand_column(column, part)
            elif column.format not in ("text", *BLANK) or column.field in part:
                columns.append(column)
        keys = [field for field in spec.sort if field in part]
        ordered = part.sort_values([*keys, "model"], ascending=[False] * len(keys) + [True], kind="stable") if keys else part
        rows = [[_cell(column, row) for column in columns] for _, row in ordered.iterrows()]
        starts = _group_starts(rows, [column.field for column in columns].index(spec.group)) if spec.group else frozenset()
        planned = next((name for name in ("worst_planned", "mean_planned") if name in part), None)
        counts = [] if planned is None else sorted({int(value) for value in part[planned].dropna()})
        caption = f"{spec.title}: {dataset}, {norm} {radius}".rstrip() + (f", n = {' or '.join(map(str, counts))}" if counts else "")
        near_constant = [str(row["model"]) for _, row in ordered.iterrows() if row["near_constant"]]
        all_cells = [cell for row in rows for cell in row]
        notes = [spec.note, *verdict_notes(all_cells), *flag_notes(all_cells)]
        notes += [f"{model} is a near-constant predictor: its robustness is meaningless." for model in near_constant]
        if "origin" in part:
            notes.append(f"Published: {'; '.join(sorted(part['origin'].dropna().unique()))}.")
        if "verdict_reasons" in part:
            notes += [
                f"{row['model']} is {row['verdict_reasons']}." for _, row in ordered.iterrows() if isinstance(row["verdict_reasons"], str)
            ]
        notes[1:1] = [_base_note(row) for _, row in part.iterrows() if "base" in part and row["model"] == row["base"]]
        if "verdict" in frame and "verdict" not in part:
            notes.append("No model here has been diagnosed under this threat model.")
        headline = part["headline"].iloc[0] if "headline" in part else "worst case"
        if headline != "worst case" and any(column.field == "worst" for column in columns):
            notes.append(f"No attack here has APGD, which leaves fewer images under {norm}: the number is not a worst case.")
        headings = [headline if column.field == "worst" and headline != "worst case" else column.heading for column in columns]
        fields = tuple(column.field for column in columns)
        tables.append(Table(caption, headings, rows, [column.format != "text" for column in columns], notes, starts, fields))
    return tables


def _expand_column(column: Column, part: pd.DataFrame) -> list[Column]:
    """Return the columns that a column with the field "*" stands for."""
    prefix = {"share": BY, "distance": DISTANCE}.get(column.format)
    if prefix is not None:
        fields = [str(name) for name in part.columns if str(name).startswith(prefix)]
        return [Column(heading=name.removeprefix(prefix), field=name, format=column.format) for name in fields]
    return [Column(heading=name, field=name, format=column.format) for name in attacks_of(part)]


def _cell(column: Column, row: pd.Series) -> Cell:
    """Return the cell of a row in a column, an accuracy with the verdict of its model."""
    cell = row[CELLS].get(column.field)
    if cell is None or (column.format != "accuracy" and cell.kind != column.format):
        value = None if column.format == "accuracy" else row.get(column.field)
        return value_cell(column.format, method_name(value) if column.field == "method" and isinstance(value, str) else value)
    if cell.kind == "accuracy" and column.field != CLEAN and "verdict" in row:
        return replace(cell, verdict="undiagnosed" if pd.isna(row["verdict"]) else str(row["verdict"]))
    return cell


def _base_note(row: pd.Series) -> str:
    """Return a note that describes the base model of a table of ablations."""
    settings = [
        f"{name} {row[field]:g}" if isinstance(row[field], (int, float)) else f"{name} {row[field]}" for field, name in VARIED.items()
    ]
    return f"Base: {row['model']} ({', '.join(settings)})."


def _group_starts(rows: list[list[Cell]], column: int) -> frozenset[int]:
    """Blank the text in `column` of each row that repeats the row above, and return the indices of the rows that begin a group."""
    texts = [row[column].value for row in rows]
    starts = frozenset(index for index in range(1, len(rows)) if texts[index] != texts[index - 1])
    for index in range(1, len(rows)):
        rows[index][column] = Cell("text", texts[index] if index in starts else "")
    return starts
