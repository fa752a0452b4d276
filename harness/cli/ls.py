"""`harness ls`: list what is registered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from harness.api.listing import KINDS, Rows, list_datasets, list_models
from harness.cli.console import err, out
from harness.cli.options import data_dir_option, json_option


@click.command("ls")
@click.argument("kind", type=click.Choice(["models", "datasets", *KINDS]))
@data_dir_option()
@json_option()
def command(kind: str, data_dir: Path | None, as_json: bool) -> None:
    """List what is registered: models, datasets, attacks, suites, tables, figures, recipes, families, methods, architectures, formats.

    \b
    Examples:
      harness ls models
      harness ls attacks --json
      harness ls datasets --data-dir ~/data
    """
    rows = _list_rows(kind, data_dir)
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0] if rows else []:
        is_numeric = all(isinstance(row[name], (int, float)) or row[name] is None for row in rows)
        table.add_column(name.replace("_", " "), justify="right" if is_numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell_text(value) for value in row.values()))
    out.print(table)


def _list_rows(kind: str, data_dir: Path | None) -> Rows:
    if kind == "models":
        return list_models(lambda error: err.print(f"harness: {error}", style="yellow", markup=False))
    return list_datasets(data_dir) if kind == "datasets" else KINDS[kind]()


def _cell_text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return f"{len(value)}"
    return f"{value:,}" if isinstance(value, int) else str(value)
