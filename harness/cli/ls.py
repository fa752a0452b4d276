"""`harness ls`: list what is registered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from harness.api.listing import KINDS, Rows, count_cells, list_cells, list_datasets, list_models
from harness.cli.console import err, out
from harness.cli.options import data_dir_option, json_option, store_option
from model_zoo.errors import UsageError, UserError


@click.command("ls")
@click.argument("kind", type=click.Choice(["models", "datasets", *KINDS]))
@click.option("--cells", is_flag=True, help="List models that were trained for the paper's tables, not the registered ones.")
@store_option("Folder whose folder `cells` contains the trained models.")
@data_dir_option()
@json_option()
def command(kind: str, cells: bool, store: Path, data_dir: Path | None, as_json: bool) -> None:
    """List what is registered: models, datasets, attacks, corruptions, suites, tables, figures, recipes, families, methods and more.

    \b
    Examples:
      harness ls models
      harness ls models --cells
      harness ls attacks --json
      harness ls datasets --data-dir ~/data
    """
    if cells and kind != "models":
        raise UsageError(f"--cells applies only to models, not to {kind}")
    rows = list_cells(store, warn) if cells else _list_rows(kind, data_dir)
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    if not rows:
        err.print(
            f"nothing is listed in {store / 'cells'}; see `harness reproduce --help`" if cells else "nothing",
            markup=False,
        )
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0] if rows else []:
        is_numeric = all(isinstance(row[name], (int, float)) or row[name] is None for row in rows)
        table.add_column(name.replace("_", " "), justify="right" if is_numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell_text(value) for value in row.values()))
    out.print(table)
    if kind == "models" and not cells and (count := count_cells(store)):
        err.print(f"and {count} models of table cells in {store}: harness ls models --cells", style="dim", markup=False)


def warn(error: UserError) -> None:
    """Print one line about something that is not listed."""
    err.print(f"harness: {error}", style="yellow", markup=False)


def _list_rows(kind: str, data_dir: Path | None) -> Rows:
    if kind == "models":
        return list_models(warn)
    return list_datasets(data_dir) if kind == "datasets" else KINDS[kind]()


def _cell_text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return f"{len(value)}"
    return f"{value:,}" if isinstance(value, int) else str(value)
