"""Tables from specifications (one TOML file each in the folder `tables`), for the terminal, Markdown, LaTeX and CSV."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.plugins import TABLES
from harness.reporting.ablations import VARIED
from harness.reporting.components import BY
from harness.reporting.frames import attacks_of, groups_of
from harness.statistics import Proportion
from model_zoo.errors import DamagedFileError

if TYPE_CHECKING:
    from rich.table import Table as RichTable

# Whole numbers that pandas turns into floats as soon as one is missing.
COUNTS = ("bytes", "parameters", "kept_weights", "seed", "seeds", "paired_images")
LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "–": "--",
        "†": r"\dag{}",
        "‡": r"\ddag{}",
        "±": r"$\pm$",
        "−": "$-$",
        "<": "$<$",
        ">": "$>$",
        **{character: rf"\{character}" for character in "&%$#_{}"},
    }
)

# Formats of columns that are left out if no row has a number, and whose cells are empty without one.
BLANK = ("published", "difference", "count")

# Mark after each robust accuracy of a model whose verdict is not ok.
MARKS = {"suspicious": "†", "masked": "‡", "undiagnosed": "?"}


# Keep a table's natural width, or shrink it to the width of a line if it is wider.
FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"

# Settings that all comparisons with the literature share.
BESIDE: dict[str, Any] = {
    "note": "Published numbers as their source prints them, with the interval of a proportion where it says over how many images; measured "
    "ones are of this store. difference: measured less published, in points, only where both are of one kind of model.",
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
    format: str = Field(pattern="^(text|integer|count|number|percent|share|accuracy|published|difference|p)$")


class Section(BaseModel):
    """A section of a comparison with the literature: its heading, and the conditions for its rows (see `harness.reporting.literature`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    heading: str
    where: dict[str, Any]


class TableSpec(BaseModel):
    """A table: title, note below it, columns, and the fields by which its rows are sorted, best first (if empty, the order of the frame).

    `frame` names the kind of rows: the models of a "summary", their "ablations", the "components" that broke their images, their
    "diagnostics", or a comparison with the "literature" (the `sections`, under `attack`, with the numbers of the `published` files).
    Adjacent rows with the same text in the column `group` form a group, and the text is written once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    note: str
    sort: list[str] = []
    columns: list[Column]
    frame: Literal["summary", "ablations", "components", "diagnostics", "literature"] = "summary"
    group: str | None = None
    sections: tuple[Section, ...] = ()
    published: tuple[str, ...] = ()
    attack: str = "autoattack"


@dataclass(frozen=True)
class Table:
    """A rendered table: all cells are text."""

    caption: str
    headings: list[str]
    rows: list[list[str]]
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
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
        return TableSpec.model_validate({"name": path.stem, **(BESIDE if fields.get("frame") == "literature" else {}), **fields})
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise DamagedFileError(path, "a table specification", str(error).splitlines()[0]) from None


def render(spec: TableSpec, frame: pd.DataFrame) -> list[Table]:
    """Return one table per threat model of a frame, which must be of the kind that the specification names."""
    tables = []
    for (dataset, norm, radius), part in groups_of(frame) if len(frame) else ():
        columns: list[Column] = []
        for column in spec.columns:
            if column.field == "*":
                columns += _starred(column, part)
            elif column.format not in ("text", *BLANK) or column.field in part:
                columns.append(column)
        keys = [field for field in spec.sort if field in part]
        ordered = part.sort_values([*keys, "model"], ascending=[False] * len(keys) + [True], kind="stable") if keys else part
        rows = [[_text(column, row) for column in columns] for _, row in ordered.iterrows()]
        starts = _grouped(rows, [column.field for column in columns].index(spec.group)) if spec.group else frozenset()
        counts = sorted({int(value) for value in part["worst_planned"].dropna()}) if "worst_planned" in part else []
        caption = f"{spec.title}: {dataset}, {norm} {radius}" + (f", n = {' or '.join(map(str, counts))}" if counts else "")
        constant = [str(row["model"]) for _, row in ordered.iterrows() if row["near_constant"]]
        written = "".join(cell for row in rows for cell in row)
        marks = [f"{mark}: {level}." for level, mark in MARKS.items() if mark in written]
        notes = [spec.note, *marks] + [f"{model} is a near-constant predictor: its robustness means nothing." for model in constant]
        if "origin" in part:
            notes.append(f"Published: {'; '.join(sorted(part['origin'].dropna().unique()))}.")
        if "verdict_reasons" in part:
            notes += [
                f"{row['model']} is {row['verdict_reasons']}." for _, row in ordered.iterrows() if isinstance(row["verdict_reasons"], str)
            ]
        notes[1:1] = [_base(row) for _, row in part.iterrows() if "base" in part and row["model"] == row["base"]]
        if "verdict" in frame and "verdict" not in part:
            notes.append("No model here has been diagnosed under this threat model.")
        called = part["headline"].iloc[0] if "headline" in part else "worst case"
        if called != "worst case" and any(column.field == "worst" for column in columns):
            notes.append("No attack here has APGD, which leaves fewer images under L2: the number is no worst case.")
        headings = [called if column.field == "worst" and called != "worst case" else column.heading for column in columns]
        fields = tuple(column.field for column in columns)
        tables.append(Table(caption, headings, rows, [c.format != "text" for c in columns], notes, starts, fields))
    return tables


def _starred(column: Column, part: pd.DataFrame) -> list[Column]:
    """Return the columns that a column with the field "*" stands for."""
    if column.format == "share":
        fields = [str(name) for name in part.columns if str(name).startswith(BY)]
        return [Column(heading=name.removeprefix(BY), field=name, format=column.format) for name in fields]
    return [Column(heading=name, field=name, format=column.format) for name in attacks_of(part)]


def _mark(row: pd.Series) -> str:
    """Return the mark of a row's verdict; "" if the verdict is ok or the frame has no verdicts."""
    if "verdict" not in row or row["verdict"] == "ok":
        return ""
    return MARKS["undiagnosed" if pd.isna(row["verdict"]) else str(row["verdict"])]


def _base(row: pd.Series) -> str:
    """Return a note that describes the base model of a table of ablations."""
    said = [f"{name} {row[field]:g}" if isinstance(row[field], (int, float)) else f"{name} {row[field]}" for field, name in VARIED.items()]
    return f"Base: {row['model']} ({', '.join(said)})."


def _grouped(rows: list[list[str]], place: int) -> frozenset[int]:
    """Blank the text at `place` in each row that repeats the row above, and return the indices of the rows that begin a group."""
    texts = [row[place] for row in rows]
    starts = frozenset(number for number in range(1, len(rows)) if texts[number] != texts[number - 1])
    for number in range(1, len(rows)):
        rows[number][place] = texts[number] if number in starts else ""
    return starts


def markdown(tables: list[Table]) -> str:
    """Return the tables as pipe tables, one after the other, each under its caption."""
    parts = []
    for table in tables:
        rule = ["---:" if numeric else "---" for numeric in table.numeric]
        cells = [[cell.replace("|", r"\|") for cell in row] for row in (table.headings, rule, *table.rows)]
        lines = ["| " + " | ".join(row) + " |" for row in cells]
        parts.append("\n".join([f"**{table.caption}**", "", *lines, "", *table.notes]))
    return "\n\n".join(parts) + "\n"


def latex(tables: list[Table]) -> str:
    """Return the tables for booktabs, no wider than a line; the document must use the packages booktabs and graphicx."""
    parts = []
    for table in tables:
        body = [" & ".join(_escape(cell) for cell in row) + r" \\" for row in (table.headings, *table.rows)]
        body = [r"\addlinespace" "\n" + line if number - 1 in table.starts else line for number, line in enumerate(body)]
        alignment = "".join("r" if numeric else "l" for numeric in table.numeric)
        notes = _escape(" ".join(table.notes))
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_escape(table.caption)}. {notes}}}",
            rf"{FIT}{{\begin{{tabular}}{{{alignment}}}",
        ]
        lines += [r"\toprule", body[0], r"\midrule", *body[1:], r"\bottomrule", r"\end{tabular}}", r"\end{table}"]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def csv(frame: pd.DataFrame) -> str:
    """Return the frame as CSV for machines: fractions in full precision, intervals and n; unknown values are empty."""
    counts = [str(name) for name in frame.columns if str(name).endswith(("_n", "_planned", "_bits", "_bytes")) or name in COUNTS]
    return frame.astype(dict.fromkeys(counts, "Int64")).to_csv(index=False, lineterminator="\n")


def terminal(spec: TableSpec, frame: pd.DataFrame) -> list[RichTable]:
    """Return tables for the terminal; each interval, in whole per cent, is written under its number."""
    from rich.table import Table as RichTable

    made = []
    for table in render(spec, frame):
        rich = RichTable(title=table.caption, title_justify="left", box=None, pad_edge=False, header_style="bold", title_style="bold")
        rich.collapse_padding = True
        for heading, numeric in zip(table.headings, table.numeric, strict=True):
            # In a narrow terminal, fold names but never numbers.
            label = heading.replace(" ", "\n") if numeric else heading
            rich.add_column(label, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold", vertical="top")
        for row in table.rows:
            rich.add_row(*map(_narrow, row))
        rich.caption = "\n".join(table.notes)
        rich.caption_justify = "left"
        made.append(rich)
    return made


def _narrow(cell: str) -> str:
    if spread := re.fullmatch(r"(\S+) \((.*)\)", cell):
        return f"{spread[1]}\n[dim]{spread[2]}[/dim]"
    found = re.fullmatch(r"(\S+) \[(\S+), (\S+)\]( .*)?", cell)
    if not found:
        return cell.replace(" ", "\n") if cell.startswith("partial ") else cell
    value, low, high, note = found.groups()
    ends = f"{low} to {high}" if value.startswith(("+", "−")) else f"{float(low):.0f}–{float(high):.0f}"
    return f"{value}\n[dim]{ends}[/dim]" + (note or "").replace(" ", "\n")


def _text(column: Column, row: pd.Series) -> str:
    if column.format == "accuracy":
        return _accuracy(column.field, row)
    value = row.get(column.field)
    if value is None or pd.isna(value):
        return "" if column.format in (*BLANK, "p") else "–"
    match column.format:
        case "integer" | "count":
            return f"{int(value):,}"
        case "percent":
            return f"{100 * float(value):g}"
        case "number":
            return f"{float(value):.4g}"
        case "published":
            return _published(column.field, row)
        case "share":
            return f"{100 * float(value):.1f}"
        case "difference":
            return _difference(column.field, row)
        case "p":
            return f"{float(value):.3f}" if value >= 0.0005 else "<0.001"
    return str(value)


def _difference(field: str, row: pd.Series) -> str:
    """Return a difference of fractions in percentage points: "−2.4 [−4.0, −0.8]"."""
    value, low, high = (f"{100 * float(row[f'{field}{end}']):+.1f}".replace("-", "−") for end in ("", "_low", "_high"))
    planned = int(row["worst_planned"])
    n = int(row.get("paired_images", row.get("measured_n", planned)))
    return f"{value} [{low}, {high}]" + (f" partial {n}/{planned}" if n < planned else "")


def _published(field: str, row: pd.Series) -> str:
    """Return a published accuracy in per cent with two decimals, with an interval if the number of images is known."""
    n = row.get("published_n")
    value = f"{100 * float(row[field]):.2f}"
    if n is None or pd.isna(n):
        return value
    low, high = Proportion(round(float(row[field]) * int(n)), int(n)).interval
    return f"{value} [{100 * low:.1f}, {100 * high:.1f}]"


def _accuracy(field: str, row: pd.Series) -> str:
    if f"{field}_sd" in row and pd.notna(row[f"{field}_sd"]):
        low, high, deviation = (100 * float(row[f"{field}_{name}"]) for name in ("min", "max", "sd"))
        return f"{low:.1f}–{high:.1f} (sd {deviation:.1f})"
    if f"{field}_n" not in row or pd.isna(row[f"{field}_n"]):
        return ""
    n, planned = int(row[f"{field}_n"]), int(row[f"{field}_planned"])
    note = f" partial {n}/{planned}" if n < planned else ""
    if not n:
        return note.strip()
    mark = "" if field == "clean" else _mark(row)
    return str(Proportion(round(row[field] * n), n)).replace(" ", f"{mark} ", 1) + note


def _escape(text: str) -> str:
    return text.translate(LATEX)
