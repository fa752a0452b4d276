"""`harness plan`: show what a run would do, and how long it would take."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import json_option
from harness.cli.planned import duration, planned

if TYPE_CHECKING:
    from harness.runner.plan import Plan


@click.command("plan")
@planned
@click.option("--workers", type=click.IntRange(min=1), help="Number of units that run in parallel.  [default: cores]")
@json_option("Print units and estimates as JSON, for scripts.")
def command(make_plan: Callable[[], Plan], suite: str | None, store: Path, workers: int | None, as_json: bool) -> None:
    """List the units of a run by model: how many there are, how many the store has, and how long the others will take.

    The estimate uses stored run times of the same model and attack. A model without any is timed for a few seconds.

    \b
    Examples:
      harness plan --suite full
      harness plan --suite quick --n 100 --json
    """
    from rich.table import Table

    from harness.cli.console import err, out, progress_bar
    from harness.runner.cost import estimate
    from harness.runner.store import Store

    plan, result_store = make_plan(), Store(store)
    with progress_bar("models") as bar:
        task = bar.add_task("reading the store", total=None, speed="–")
        estimates = estimate(plan.units, result_store, lambda model: bar.update(task, description=f"timing {model}"))
    if as_json:
        units = [{**unit.labels, "images": len(unit.block), "stored": result_store.holds(unit.id)} for unit in plan.units]
        click.echo(json.dumps({"units": units, "models": [asdict(entry) for entry in estimates], "omitted": plan.omitted}, indent=1))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "units", "stored", "time left on one core"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for entry in estimates:
        time_left = duration(entry.seconds) + (" (from a pilot)" if entry.piloted else "") if entry.stored < entry.units else "–"
        table.add_row(entry.model, str(entry.units), str(entry.stored), time_left)
    out.print(table)
    seconds, parallel = sum(entry.seconds for entry in estimates), workers or os.cpu_count() or 1
    counts = f"{len(plan.units)} units, {sum(entry.stored for entry in estimates)} stored in {store}"
    err.print(f"{counts}; about {duration(seconds / parallel)} for the rest with {parallel} workers", markup=False)
