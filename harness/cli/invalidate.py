"""`harness invalidate`: take outcomes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.planned import planned
from model_zoo.errors import UsageError

if TYPE_CHECKING:
    from harness.runner.plan import Plan


@click.command("invalidate")
@click.argument("units", nargs=-1)
@planned
@click.option("--reason", required=True, help="Why; one sentence, which stands below every report.")
def command(make_plan: Callable[[], Plan], suite: str | None, store: Path, units: tuple[str, ...], reason: str) -> None:
    """Declare finished units invalid: UNITS by the first characters of their ids, or all that the options of a run name.

    Invalid outcomes enter no number, count as missing, and are run again by the next run; the reason stays with them and stands in reports.

    \b
    Examples:
      harness invalidate 51e7b4a4 --reason "the machine had faulty memory"
      harness invalidate --model cifar10-rn8w28-dense --attack pgd --reason "wrong step size"
    """
    from harness.cli.console import out
    from harness.runner.store import Store

    kept = Store(store)
    if units:
        known = [path.stem for path in kept.units.glob("*.json")]
        chosen = []
        for prefix in units:
            fitting = [unit for unit in known if unit.startswith(prefix)]
            if len(fitting) != 1:
                raise UsageError(f"{len(fitting)} units of {store} begin with {prefix!r}")
            chosen += fitting
    else:
        chosen = [unit.id for unit in make_plan().units if kept.holds(unit.id)]
    if not chosen:
        raise UsageError(f"{store} holds none of these units")
    for unit in chosen:
        kept.invalidate(unit, reason)
    out.print(f"{len(chosen)} units of {store} are invalid now: {reason}", markup=False)
