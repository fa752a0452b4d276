"""`harness reproduce`: the tables of the paper, published and measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import json_option, store_option

if TYPE_CHECKING:
    from harness.reproduction.measurements import Measurements
    from harness.reproduction.status import TableStatus

# Names of the paper's figures begin so.
FIGURES_PREFIX = "liu2022-figure-"


@click.command("reproduce")
@click.argument("table", required=False)
@store_option()
@json_option("The table's cells, or the status of all tables, as one JSON list.")
def command(table: str | None, store: Path, as_json: bool) -> None:
    """Print a table of the paper with published and measured numbers; without TABLE, show how far every table is.

    \b
    Examples:
      harness reproduce
      harness reproduce table-1
      harness reproduce liu2022-4 --json
    """
    from harness.reproduction.measurements import stored
    from harness.runner.store import Store

    measurements = stored(Store(store))
    if table is None:
        _show_status(measurements, as_json)
    else:
        show(table, measurements, as_json)


def show(name: str, measurements: Measurements, as_json: bool = False) -> None:
    """Print one table, for the width of the terminal or as JSON."""
    from harness.cli.console import out
    from harness.reporting.renderers import terminal
    from harness.reproduction.made import make
    from harness.reproduction.specification import get

    made = make(get(name), measurements, width=out.width)
    if as_json:
        click.echo(made.frame.to_json(orient="records", indent=1))
        return
    for part in made.parts:
        if part.caption:
            out.print(part.caption, style="bold", markup=False)
        # A table's own title and notes would be as narrow as its columns.
        out.print(*terminal([replace(part, caption="", notes=[])]))
        out.print(*part.notes, sep="\n", markup=False)


def _show_status(measurements: Measurements, as_json: bool) -> None:
    from harness.cli.console import out
    from harness.plugins import FIGURES
    from harness.reproduction.status import status

    rows = status(measurements)
    figures = [name for name in FIGURES.names() if name.startswith(FIGURES_PREFIX)]
    if as_json:
        click.echo(json.dumps([_json(row) for row in rows] + [{"figure": name} for name in figures], indent=1))
        return
    out.print(_status_table(rows))
    for name in figures:
        out.print(f"figure: {name}", markup=False)


def _status_table(rows: list[TableStatus]) -> object:
    from rich.table import Table

    from harness.reproduction.measurements import PAPER, SMALL

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("table", "title", "published", "paper\nscale", "left", "small\nscale", "left"):
        is_text = heading in ("table", "title")
        table.add_column(heading, justify="left" if is_text else "right", no_wrap=heading != "title", overflow="fold")
    for row in rows:
        counts = [str(number) for scale in (PAPER, SMALL) for number in (row.measured[scale], row.left(scale))]
        table.add_row(row.name, row.title, *(["computed", *[""] * len(counts)] if row.is_computed else [str(row.cells), *counts]))
    return table


def _json(row: TableStatus) -> dict[str, object]:
    left = {scale: row.left(scale) for scale in row.measured}
    return {
        "table": row.name,
        "title": row.title,
        "computed": row.is_computed,
        "published": row.cells,
        "measured": row.measured,
        "left": left,
    }
