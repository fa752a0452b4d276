"""`harness store merge`: copy outcomes and diagnostics from other stores."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from harness.cli.options import json_option, store_option
from model_zoo.errors import UsageError


@click.command("merge")
@click.argument("others", nargs=-1, required=True, type=click.Path(path_type=Path))
@store_option("Folder of the store to merge into.")
@json_option()
def command(others: tuple[Path, ...], store: Path, as_json: bool) -> None:
    """Copy the finished units and diagnostics of OTHER stores into one store.

    If both stores have a unit with different outcomes, it is listed, the target store keeps its outcomes, and the exit status is 1.
    Damaged units are listed and not copied.

    \b
    Examples:
      harness store merge ../colleague/results
      harness store merge run1 run2 --store results
    """
    from harness.cli.console import err, out
    from harness.runner.merge import merge
    from harness.runner.store import Store

    rows, has_problems = [], False
    for source in others:
        if not Store(source).exists:
            raise UsageError(f"{source} is not a store: it has neither a folder 'units' nor packed outcomes")
        merged = merge(Store(store), Store(source))
        for line in merged.conflicts:
            err.print(f"conflict: {line}", style="red", markup=False)
        for line in merged.damaged:
            err.print(f"left out: {line}", style="yellow", markup=False)
        has_problems |= bool(merged.conflicts or merged.damaged)
        rows.append({"store": str(source), **dataclasses.asdict(merged)})
        if as_json:
            continue
        trainings = f"{merged.trainings} trainings and " if merged.trainings else ""
        counts = (
            f"{trainings}{len(merged.copied)} units copied, {len(merged.already_stored)} already present, {len(merged.conflicts)} conflicts"
        )
        out.print(f"{source}: {counts}, {len(merged.damaged)} damaged", markup=False)
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    if has_problems:
        raise SystemExit(1)
