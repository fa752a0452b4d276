"""Tables by specification (one TOML file each in the folder `tables`), for the terminal, Markdown, LaTeX and CSV."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.reporting.frames import attacks_of, groups_of
from harness.statistics import Proportion
from model_zoo.errors import DamagedFileError, UnknownNameError

if TYPE_CHECKING:
    from rich.table import Table as RichTable

FOLDER = Path(__file__).parent / "tables"
# Whole numbers that pandas turns into floats as soon as one is missing.
COUNTS = ("bytes", "parameters", "kept_weights")
LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "–": "--",
        "±": r"$\pm$",
        **{character: rf"\{character}" for character in "&%$#_{}"},
    }
)


class Column(BaseModel):
    """One column: its heading, the summary's field ("*" for one an attack), and how its values are written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    heading: str
    field: str
    format: str = Field(pattern="^(text|integer|percent|accuracy)$")


class TableSpec(BaseModel):
    """A table: title, note below it, columns, and the fields that sort its rows, best first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    note: str
    sort: list[str]
    columns: list[Column]


@dataclass(frozen=True)
class Table:
    """A rendered table: all cells as text."""

    caption: str
    headings: list[str]
    rows: list[list[str]]
    numeric: list[bool]
    notes: list[str]


def names() -> list[str]:
    """Names of the tables, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def get(name: str) -> TableSpec:
    """The specification called `name`; an UnknownNameError with the near miss otherwise."""
    if name not in names():
        raise UnknownNameError("table", name, names(), "harness ls tables")
    path = FOLDER / f"{name}.toml"
    try:
        return TableSpec.model_validate({"name": name, **tomllib.loads(path.read_text(encoding="utf-8"))})
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise DamagedFileError(path, "a table specification", str(error).splitlines()[0]) from None


def render(spec: TableSpec, summary: pd.DataFrame) -> list[Table]:
    """One table for every threat model of a summary."""
    tables = []
    for (dataset, norm, radius), part in groups_of(summary):
        columns: list[Column] = []
        for column in spec.columns:
            if column.field == "*":
                columns += [Column(heading=name, field=name, format=column.format) for name in attacks_of(part)]
            else:
                columns.append(column)
        keys = [field for field in spec.sort if field in part]
        ordered = part.sort_values([*keys, "model"], ascending=[False] * len(keys) + [True], kind="stable")
        rows = [[_text(column, row) for column in columns] for _, row in ordered.iterrows()]
        counts = sorted({int(value) for value in part["worst_planned"]})
        caption = f"{spec.title}: {dataset}, {norm} {radius}, n = {' or '.join(map(str, counts))}"
        constant = [str(row["model"]) for _, row in ordered.iterrows() if row["near_constant"]]
        notes = [spec.note] + [f"{model} is a near-constant predictor: its robustness means nothing." for model in constant]
        tables.append(Table(caption, [column.heading for column in columns], rows, [c.format != "text" for c in columns], notes))
    return tables


def markdown(tables: list[Table]) -> str:
    """Pipe tables, one after the other, each under its caption."""
    parts = []
    for table in tables:
        rule = ["---:" if numeric else "---" for numeric in table.numeric]
        cells = [[cell.replace("|", r"\|") for cell in row] for row in (table.headings, rule, *table.rows)]
        lines = ["| " + " | ".join(row) + " |" for row in cells]
        parts.append("\n".join([f"**{table.caption}**", "", *lines, "", *table.notes]))
    return "\n\n".join(parts) + "\n"


def latex(tables: list[Table]) -> str:
    """Booktabs tables, for a document that uses the package booktabs."""
    parts = []
    for table in tables:
        body = [" & ".join(_escape(cell) for cell in row) + r" \\" for row in (table.headings, *table.rows)]
        alignment = "".join("r" if numeric else "l" for numeric in table.numeric)
        notes = _escape(" ".join(table.notes))
        lines = [r"\begin{table}", r"\centering", rf"\caption{{{_escape(table.caption)}. {notes}}}", rf"\begin{{tabular}}{{{alignment}}}"]
        lines += [r"\toprule", body[0], r"\midrule", *body[1:], r"\bottomrule", r"\end{tabular}", r"\end{table}"]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def csv(summary: pd.DataFrame) -> str:
    """The summary itself: fractions in full, intervals and n, for machines; what is unknown is empty."""
    counts = [str(name) for name in summary.columns if str(name).endswith(("_n", "_planned", "_bits")) or name in COUNTS]
    return summary.astype(dict.fromkeys(counts, "Int64")).to_csv(index=False, lineterminator="\n")


def terminal(spec: TableSpec, summary: pd.DataFrame) -> list[RichTable]:
    """Tables for the terminal: each interval, in whole per cent, stands under its number."""
    from rich.table import Table as RichTable

    made = []
    for table in render(spec, summary):
        rich = RichTable(title=table.caption, title_justify="left", box=None, pad_edge=False, header_style="bold", title_style="bold")
        rich.collapse_padding = True
        for heading, numeric in zip(table.headings, table.numeric, strict=True):
            # In a narrow terminal names are folded, numbers never.
            label = heading.replace(" ", "\n") if numeric else heading
            rich.add_column(label, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold", vertical="top")
        for row in table.rows:
            rich.add_row(*map(_narrow, row))
        rich.caption = "\n".join(table.notes)
        rich.caption_justify = "left"
        made.append(rich)
    return made


def _narrow(cell: str) -> str:
    found = re.fullmatch(r"(\S+) \[(\S+), (\S+)\]( .*)?", cell)
    if not found:
        return cell.replace(" ", "\n") if cell.startswith("partial ") else cell
    value, low, high, note = found.groups()
    return f"{value}\n[dim]{float(low):.0f}–{float(high):.0f}[/dim]" + (note or "").replace(" ", "\n")


def _text(column: Column, row: pd.Series) -> str:
    if column.format == "accuracy":
        return _accuracy(column.field, row)
    value = row.get(column.field)
    if value is None or pd.isna(value):
        return "–"
    match column.format:
        case "integer":
            return f"{int(value):,}"
        case "percent":
            return f"{100 * float(value):g}"
    return str(value)


def _accuracy(field: str, row: pd.Series) -> str:
    if f"{field}_n" not in row or pd.isna(row[f"{field}_n"]):
        return ""
    n, planned = int(row[f"{field}_n"]), int(row[f"{field}_planned"])
    note = f" partial {n}/{planned}" if n < planned else ""
    if not n:
        return note.strip()
    return f"{Proportion(round(row[field] * n), n)}{note}"


def _escape(text: str) -> str:
    return text.translate(LATEX)
