"""`harness status`: show the progress of a run, from any machine that sees its store."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import json_option
from harness.cli.planned import duration, planned

if TYPE_CHECKING:
    from harness.runner.plan import Plan


@click.command("status")
@planned
@json_option("Print the status as JSON, for scripts.")
def command(make_plan: Callable[[], Plan], suite: str | None, store: Path, as_json: bool) -> None:
    """Show how many units of a run are done, running, failed and left, and the time remaining.

    Pass the same options as to `harness run`. Nothing is run: the estimate uses the times of units that are done.

    \b
    Examples:
      harness status --suite full
      harness status --suite full --n 40 --json
    """
    from rich.table import Table

    from harness.cli.console import err, out
    from harness.runner.status import status
    from harness.runner.store import Store

    progress = status(make_plan(), Store(store))
    if as_json:
        click.echo(json.dumps(asdict(progress), indent=1))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("running", "where", "for", "done"):
        table.add_column(heading)
    for claim in progress.running:
        process = f"{claim['host'].split('/')[0]} · {claim['pid']}"
        done_text = f"{100 * claim['fraction']:.0f} % {claim['component']}"
        table.add_row(claim["what"], process, duration(max(time.time() - claim["since"], 0.0)), done_text)
    if progress.running:
        out.print(table)
    for unit, message in progress.failed.items():
        err.print(f"failed: {message or unit}", style="red", markup=False)
    time_left = "" if progress.seconds is None or not progress.remaining else f"; about {duration(progress.seconds)} to go"
    out.print(
        f"{progress.done} of {progress.units} units done, {len(progress.running)} running, "
        f"{len(progress.failed)} failed, {progress.remaining} left{time_left}",
        markup=False,
    )
