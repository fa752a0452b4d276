"""`harness footprint`: show the bytes of models by every convention, and their operations."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import click
from rich.table import Table


@click.command("footprint")
@click.argument("models", nargs=-1, required=True)
@click.option("--layers", is_flag=True, help="A row for every layer.")
@click.option("--json", "as_json", is_flag=True, help="One JSON list, for scripts.")
def command(models: tuple[str, ...], layers: bool, as_json: bool) -> None:
    """Say what MODELS cost to store and to run for one image: bytes by convention, activations, operations.

    Weights alone are counted, but for the batch norms, which have a line of their own, and the file, which is measured and holds both.

    \b
    Examples:
      harness footprint cifar10-rn8w32-pruned-binary-k05-p01 cifar10-rn8w32-dense-binary
      harness footprint cifar10-rn8w32-pruned-binary-k05-p01 --layers
    """
    from harness.cli.console import err
    from model_zoo.errors import UserError
    from model_zoo.footprint import measure, measure_layers
    from model_zoo.packing.packed import load_packed
    from model_zoo.references import parse_recorded

    found: list[dict[str, Any]] = []
    failed = False
    for model in models:
        try:
            reference = parse_recorded(model)
            record, loaded = reference.open()
            path, shape = reference.checkpoint_path, record.input_shape
            counted = measure(loaded, path, shape, record.signs_drawn)
            is_packed = record.architecture["name"] != "onnx"
            row = {
                "id": record.id,
                "weight_bits": record.weight_bits,
                "file": "packed" if is_packed else "ONNX",
                **dataclasses.asdict(counted),
                "left_out": load_packed(path).header["provenance"].get("left_out", {}) if is_packed else {},
            }
            if layers:
                row["layers"] = [{**dataclasses.asdict(layer), "keep_ratio": layer.keep_ratio} for layer in measure_layers(loaded, shape)]
        except UserError as error:
            err.print(f"not counted: {model}: {error}", style="red", markup=False)
            failed = True
            continue
        found.append(row)
    if as_json:
        click.echo(json.dumps(found, indent=1))
    elif found:
        _show(found, layers)
    if failed:
        raise SystemExit(1)


def _show(found: list[dict[str, Any]], layers: bool) -> None:
    from harness.cli.console import out
    from model_zoo.footprint import LINES

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for row in found:
        table.add_column(row["id"], justify="right", overflow="fold")
    table.add_row("kind of file", *(row["file"] for row in found))
    for name, title in LINES.items():
        if any(row[name] is not None for row in found):
            table.add_row(title, *("–" if row[name] is None else f"{row[name]:,}" for row in found))
    out.print(table)
    for row in found:
        for part, count in row["left_out"].items():
            out.print(f"{row['id']}: left out, as nothing uses it: {part} ({count:,} parameters)", markup=False, highlight=False)
        if layers:
            out.print(_layers(row["id"], row["layers"]))


def _layers(title: str, rows: list[dict[str, Any]]) -> Table:
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
