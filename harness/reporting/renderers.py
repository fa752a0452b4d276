"""Tables in every format of output: Markdown, LaTeX, CSV and the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from harness.reporting import cells
from harness.reporting.cells import Cell, escape_latex
from harness.reporting.frames import CELLS
from harness.reporting.tables import Table

if TYPE_CHECKING:
    from rich.table import Table as RichTable

# Whole numbers that pandas turns into floats as soon as one is missing.
COUNTS = ("bytes", "parameters", "kept_weights", "seed", "seeds", "paired_images")
# Keep a table's natural width, or shrink it to the width of a line if it is wider.
FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"


def markdown(tables: Sequence[Table]) -> str:
    """Return the tables as pipe tables, one after the other, each under its caption."""
    parts = []
    for table in tables:
        rule = ["---:" if numeric else "---" for numeric in table.numeric]
        headings = [cells.markdown(Cell("text", heading)) for heading in table.headings]
        lines = ["| " + " | ".join(row) + " |" for row in (headings, rule, *(map(cells.markdown, row) for row in table.rows))]
        parts.append("\n".join([f"**{table.caption}**", "", *lines, "", *table.notes]))
    return "\n\n".join(parts) + "\n"


def latex(tables: Sequence[Table]) -> str:
    """Return the tables for booktabs, no wider than a line; the document must use the packages booktabs and graphicx."""
    parts = []
    for table in tables:
        body = [" & ".join(map(escape_latex, table.headings)) + r" \\"]
        for number, row in enumerate(table.rows):
            space = r"\addlinespace" "\n" if number in table.starts else ""
            body.append(space + " & ".join(map(cells.latex, row)) + r" \\")
        alignment = "".join("r" if numeric else "l" for numeric in table.numeric)
        notes = escape_latex(" ".join(table.notes))
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape_latex(table.caption)}. {notes}}}",
            rf"{FIT}{{\begin{{tabular}}{{{alignment}}}",
        ]
        lines += [r"\toprule", body[0], r"\midrule", *body[1:], r"\bottomrule", r"\end{tabular}}", r"\end{table}"]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def csv(frame: pd.DataFrame) -> str:
    """Return the frame as CSV for machines: fractions in full precision, intervals and n; unknown values are empty."""
    counts = [str(name) for name in frame.columns if str(name).endswith(("_n", "_planned", "_bits", "_bytes")) or name in COUNTS]
    return numbers(frame).astype(dict.fromkeys(counts, "Int64")).to_csv(index=False, lineterminator="\n")


def numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame without its column of cells, whose numbers the other columns hold."""
    return frame.drop(columns=CELLS, errors="ignore")


def terminal(tables: Sequence[Table]) -> list[RichTable]:
    """Return tables for the terminal; each interval, in whole per cent, is written under its number."""
    from rich.table import Table as RichTable

    rich_tables = []
    for table in tables:
        rich = RichTable(title=table.caption, title_justify="left", box=None, pad_edge=False, header_style="bold", title_style="bold")
        rich.collapse_padding = True
        for heading, numeric in zip(table.headings, table.numeric, strict=True):
            # In a narrow terminal, fold names but never numbers.
            label = heading.replace(" ", "\n") if numeric else heading
            rich.add_column(label, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold", vertical="top")
        for row in table.rows:
            rich.add_row(*map(cells.terminal, row))
        rich.caption = "\n".join(table.notes)
        rich.caption_justify = "left"
        rich_tables.append(rich)
    return rich_tables
