"""`harness footprint`: show the bytes of models by every convention, and their operations."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.table import Table

from harness.cli.options import json_option


@click.command("footprint")
@click.argument("models", nargs=-1, required=True)
@click.option("--layers", is_flag=True, help="Print one row per layer.")
@json_option()
def command(models: tuple[str, ...], layers: bool, as_json: bool) -> None:
    """Show what MODELS cost to store and to run on one image: bytes by several conventions, activations and operations.

    Each convention counts the weights only. Batch norms have a separate line. The size of the file is measured and includes both.

    \b
    Examples:
      harness footprint cifar10-rn8w32-pruned-binary-k05-p01 cifar10-rn8w32-dense-binary
      harness footprint cifar10-rn8w32-pruned-binary-k05-p01 --layers
    """
    from harness.api.listing import footprint_of
    from harness.cli.console import err
    from model_zoo.errors import UserError

    rows: list[dict[str, Any]] = []
    has_failed = False
    for model in models:
        try:
            rows.append(footprint_of(model, layers))
        except UserError as error:
            err.print(f"not counted: {model}: {error}", style="red", markup=False)
            has_failed = True
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    elif rows:
        _print_footprints(rows, layers)
    if has_failed:
        raise SystemExit(1)


def _print_footprints(rows: list[dict[str, Any]], layers: bool) -> None:
    from harness.cli.console import out
    from model_zoo.footprint import LINES

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for row in rows:
        table.add_column(row["id"], justify="right", overflow="fold")
    table.add_row("kind of file", *(row["file"] for row in rows))
    for name, title in LINES.items():
        if any(row[name] is not None for row in rows):
            table.add_row(title, *("–" if row[name] is None else f"{row[name]:,}" for row in rows))
    out.print(table)
    for row in rows:
        for part, count in row["left_out"].items():
            out.print(f"{row['id']}: left out because it is unused: {part} ({count:,} parameters)", markup=False, highlight=False)
        if layers:
            out.print(_layer_table(row["id"], row["layers"]))


def _layer_table(title: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("layer")
    for heading in ("shape", "weights", "kept", "kept, %", "mask bytes", "MACs", "accumulations"):
        table.add_column(heading, justify="right")
    for row in rows:
        shape = "×".join(str(size) for size in row["shape"])
        share = f"{100 * row['keep_ratio']:.2f}"
        numbers = (f"{row[name]:,}" for name in ("mask_bytes", "macs", "accumulations"))
        table.add_row(row["name"], shape, f"{row['weights']:,}", f"{row['kept_weights']:,}", share, *numbers)
    return table
