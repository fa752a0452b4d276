"""`harness show`: show one model's record, footprint and results."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from harness.cli.console import err, out
from harness.cli.options import json_option, store_option

if TYPE_CHECKING:
    import pandas as pd


@click.command("show")
@click.argument("model")
@store_option()
@json_option("Print one JSON object, for scripts.")
def command(model: str, store: Path, as_json: bool) -> None:
    """Show one model: its record, its bytes by several conventions, and its stored results.

    \b
    Examples:
      harness show cifar10-rn8w32-pruned-binary-k20-p01
      harness show my-model.toml --json
    """
    from harness.runner.identity import model_sha256
    from harness.runner.plan import model_identity
    from harness.runner.results import read, select
    from model_zoo import registry
    from model_zoo.footprint import measure
    from model_zoo.references import parse_recorded

    reference = parse_recorded(model)
    record = reference.describe()
    reason = registry.absence(model)
    footprint = None
    if reason is None:
        footprint = measure(reference.load(), reference.checkpoint_path, record.input_shape, record.signs_drawn)
    same_id = select(read(store), model=record.id)
    outcomes = same_id[same_id["model_sha256"] == model_sha256(model_identity(record))]
    results = _accuracies(outcomes)
    if len(outcomes) < len(same_id):
        text = f"{store} also has outcomes of {same_id['model_sha256'].nunique() - bool(results)} other model(s) called {record.id}"
        err.print(f"{text}, which are not shown", style="yellow")
    if as_json:
        fields = {
            "record": record.model_dump(exclude_none=True),
            "sparsity": record.sparsity,
            "footprint": None if footprint is None else dataclasses.asdict(footprint),
            "results": results,
        }
        click.echo(json.dumps(fields, indent=1))
        return
    out.print(Text(record.id, "bold"), record.title, sep="  ")
    _print_table("record", _flatten({**record.model_dump(exclude_none=True, exclude={"id", "title"}), "sparsity": record.sparsity}))
    if footprint is None:
        out.print(reason, style="dim")
    else:
        _print_table("footprint", {name.replace("_", " "): _amount_text(value) for name, value in dataclasses.asdict(footprint).items()})
    if results:
        table = Table(title="robust accuracy", title_justify="left", box=None, pad_edge=False, header_style="bold")
        for name in ("dataset", "threat", "attack", "n", "per cent"):
            table.add_column(name, justify="right" if name in ("n", "per cent") else "left")
        for row in results:
            table.add_row(row["dataset"], row["threat"], row["attack"], str(row["n"]), f"{100 * row['robust_accuracy']:.1f}")
        out.print(table)
    else:
        out.print(f"no outcomes in {store}: harness run --model {record.id}", style="dim")


def _accuracies(outcomes: pd.DataFrame) -> list[dict[str, Any]]:
    if outcomes.empty:
        return []
    rows = []
    for (dataset, norm, radius, attack), part in outcomes.groupby(["dataset", "norm", "radius", "attack"], sort=True):
        accuracy = float(part["robust"].mean())
        rows.append({"dataset": dataset, "threat": f"{norm} {radius}", "attack": attack, "n": len(part), "robust_accuracy": accuracy})
    return rows


def _print_table(title: str, rows: dict[str, str]) -> None:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    out.print(table)


def _flatten(fields: dict[str, object], prefix: str = "") -> dict[str, str]:
    rows: dict[str, str] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            rows.update(_flatten(value, f"{prefix}{name}."))
        elif value is not None:
            rows[prefix + name] = f"{value:g}" if isinstance(value, float) else str(value)
    return rows


def _amount_text(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
