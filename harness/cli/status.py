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
@json_option("As JSON, for scripts.")
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

    found = status(make_plan(), Store(store))
    if as_json:
        click.echo(json.dumps(asdict(found), indent=1))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("running", "where", "for", "done"):
        table.add_column(heading)
    for claim in found.running:
        where = f"{claim['host'].split('/')[0]} · {claim['pid']}"
        part = f"{100 * claim['fraction']:.0f} % {claim['component']}"
        table.add_row(claim["what"], where, duration(max(time.time() - claim["since"], 0.0)), part)
    if found.running:
        out.print(table)
    for what, message in found.failed.items():
        err.print(f"failed: {message or what}", style="red", markup=False)
    left = "" if found.seconds is None or not found.left else f"; about {duration(found.seconds)} to go"
    out.print(
        f"{found.done} of {found.units} units done, {len(found.running)} running, {len(found.failed)} failed, {found.left} left{left}",
        markup=False,
    )
