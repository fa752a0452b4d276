"""`harness reproduce`: the tables of the paper, published and measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import data_dir_option, executor_options, json_option, store_option
from model_zoo.errors import UsageError

if TYPE_CHECKING:
    from harness.reproduction.measurements import Measurements
    from harness.reproduction.status import TableStatus


@click.command("reproduce")
@click.argument("table", required=False)
@click.option("--scale", help="Train and attack what is missing at this scale: small, paper, or a TOML file.  [default: start nothing]")
@click.option("--row", "rows", multiple=True, help="Show only this row, given by its name or one of its labels; may be repeated.")
@click.option("--column", "columns", multiple=True, help="Show only this column (or group of columns, such as CIFAR-10); may be repeated.")
@click.option("--plan", "plan_only", is_flag=True, help="Show what would be trained and attacked, and how long it would take.")
@store_option("Folder with stored outcomes; its folder `cells` contains those of trained cells.")
@data_dir_option("Folder with training images.")
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Number of trainings or attacks that run in parallel."
)
@executor_options
@json_option("Print the table's cells, the plan, or the status of all tables as one JSON list.")
def command(
    table: str | None,
    scale: str | None,
    rows: tuple[str, ...],
    columns: tuple[str, ...],
    plan_only: bool,
    store: Path,
    data_dir: Path | None,
    workers: int,
    executor: str | None,
    cpus: float,
    gpus: float,
    device: str,
    as_json: bool,
) -> None:
    """Print a table or figure of the paper with published and measured numbers; with --scale, train and attack what is missing first.

    Without TABLE, show how many cells of every table are measured. The same command continues an interrupted run.

    \b
    Examples:
      harness reproduce
      harness reproduce table-1
      harness reproduce table-1 --scale small --data-dir ~/data
      harness reproduce table-9 --column CIFAR-10 --scale small --plan
      harness reproduce table-4 --scale paper --device cuda --executor ray --gpus-per-unit 0.5
      harness reproduce figure-3
    """
    from harness.cli import reproduce_cells as cells
    from harness.reproduction.measurements import stored
    from harness.runner.store import Store

    if table is None:
        if scale is not None or rows or columns or plan_only:
            raise UsageError("name a table, such as table-1: --scale, --row, --column and --plan need one")
        _show_status(stored(Store(store), data_dir), store, data_dir, as_json)
        return
    if cells.is_figure(table):
        cells.draw(table, scale or "small", store, data_dir)
        return
    if plan_only:
        cells.show_plan(table, scale or "small", rows, columns, store, data_dir, device, as_json)
        return
    has_failed = scale is not None and cells.run(
        table, scale, rows, columns, store, data_dir, workers, {"executor": executor, "cpus": cpus, "gpus": gpus, "device": device}
    )
    show(table, stored(Store(store), data_dir, scale), as_json, rows, columns)
    if has_failed:
        raise SystemExit(1)


def show(name: str, measurements: Measurements, as_json: bool = False, rows: Sequence[str] = (), columns: Sequence[str] = ()) -> None:
    """Print one table, for the width of the terminal or as JSON."""
    from harness.cli.console import out
    from harness.reporting.renderers import terminal
    from harness.reproduction.made import make
    from harness.reproduction.specification import get

    made = make(get(name), measurements, rows, columns, width=out.width)
    if as_json:
        click.echo(made.frame.to_json(orient="records", indent=1))
        return
    for part in made.parts:
        if part.caption:
            out.print(part.caption, style="bold", markup=False)
        # A table's own title and notes would be as narrow as its columns.
        out.print(*terminal([replace(part, caption="", notes=[])]))
        out.print(*part.notes, sep="\n", markup=False)


def _show_status(measurements: Measurements, store: Path, data_dir: Path | None, as_json: bool) -> None:
    from harness.cli.console import out
    from harness.cli.planned import duration
    from harness.reproduction.cells import CellStore
    from harness.reproduction.cost import quick_seconds
    from harness.reproduction.figures import FIGURES
    from harness.reproduction.measurements import SMALL
    from harness.reproduction.specification import get
    from harness.reproduction.status import status

    rows = status(measurements)
    cells = CellStore.open(store, SMALL, data_dir)
    seconds = {row.name: quick_seconds(cells, cells.missing_trainings(get(row.name).trainings())[0]) for row in rows if not row.is_computed}
    figures = {name: function.__doc__ or "" for name, function in FIGURES.items()}
    if as_json:
        listed = [{**_json(row), "training_seconds": seconds.get(row.name)} for row in rows]
        click.echo(json.dumps([*listed, *({"figure": name, "title": text.splitlines()[0]} for name, text in figures.items())], indent=1))
        return
    measured = {row.name: row.measured[SMALL] for row in rows}
    remaining = {
        # Nothing to train and nothing measured: the scale has none of the table's cells.
        name: "unknown" if value is None else duration(value) if value or measured[name] else "–"
        for name, value in seconds.items()
    }
    out.print(_status_table(rows, remaining))
    out.print("left to train: time on one core of this machine at small scale, for cells that this scale has", style="dim", markup=False)
    for name, text in figures.items():
        out.print(f"{name}: {text.splitlines()[0]}", markup=False)


def _status_table(rows: list[TableStatus], remaining: dict[str, str]) -> object:
    from rich.table import Table

    from harness.reproduction.measurements import PAPER, SMALL

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("table", "title", "published", "paper\nscale", "left", "small\nscale", "left", "left to\ntrain"):
        is_text = heading in ("table", "title")
        table.add_column(heading, justify="left" if is_text else "right", no_wrap=heading != "title", overflow="fold")
    for row in rows:
        counts = [str(number) for scale in (PAPER, SMALL) for number in (row.measured[scale], row.missing(scale))]
        numbers = ["computed", *[""] * (len(counts) + 1)] if row.is_computed else [str(row.cells), *counts, remaining[row.name]]
        table.add_row(row.name, row.title, *numbers)
    return table


def _json(row: TableStatus) -> dict[str, object]:
    return {
        "table": row.name,
        "title": row.title,
        "computed": row.is_computed,
        "published": row.cells,
        "measured": row.measured,
        "missing": {scale: row.missing(scale) for scale in row.measured},
    }
