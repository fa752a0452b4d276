"""`harness store pack`: convert a working store to its packed form."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from harness.cli.options import json_option, store_option


@click.command("pack")
@store_option("Folder of the store to pack.")
@json_option("Print one JSON object, for scripts.")
def command(store: Path, as_json: bool) -> None:
    """Move all outcomes of a store into outcomes.parquet, and all manifests and diagnoses into manifests.json.zst.

    Every command reads packed and unpacked stores. New outcomes are written as separate files until the store is packed again. Pictures of
    broken images stay where they are; only the page shows them, and they may be deleted. Damaged files are listed and not changed.

    \b
    Examples:
      harness store pack
      harness store pack --store other/results
    """
    from harness.cli.console import err, out
    from harness.runner.packing import pack
    from harness.runner.store import Store
    from model_zoo.errors import UsageError

    if not Store(store).exists:
        raise UsageError(f"{store} is not a store: it has neither a folder 'units' nor packed outcomes")
    packed = pack(Store(store))
    for line in packed.damaged:
        err.print(f"unchanged: {line}", style="yellow", markup=False)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(packed), indent=1))
    else:
        out.print(
            f"{store}: {packed.units:,} units, {packed.diagnoses:,} diagnoses, {packed.trainings:,} trainings"
            f" in {packed.bytes_packed / 1e6:.2f} MB"
            f" ({packed.bytes_removed / 1e6:.2f} MB of files removed)",
            markup=False,
            soft_wrap=True,
        )
    if packed.damaged:
        raise SystemExit(1)
