"""`harness selftest`: check that the harness detects the faults it is meant to detect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from harness.cli.options import json_option, store_option

if TYPE_CHECKING:
    from harness.selftest import Result


@click.command("selftest")
@click.option(
    "--pitfall",
    "pitfalls",
    type=click.IntRange(0, 22),
    multiple=True,
    help="Check only this pitfall (0: honest models); may be repeated.  [default: all]",
)
@store_option("Folder in which the results of a complete run are stored.")
@json_option()
def command(pitfalls: tuple[int, ...], store: Path, as_json: bool) -> None:
    """Plant every fault of docs/pitfalls.md, as a tiny model or in the code, and check that it is caught. Takes minutes, offline.

    Honest models are diagnosed too and must not be accused. The exit status is 1 if a fault is missed or an honest model is accused. The
    results of a complete run are stored in STORE/selftest.json, which `harness report` renders.

    \b
    Examples:
      harness selftest
      harness selftest --pitfall 5 --pitfall 16 --json
    """
    import torch

    from harness import selftest
    from harness.cli.console import err, out, progress_bar
    from harness.evaluation import thresholds
    from harness.selftest import report
    from model_zoo.files import place

    torch.set_num_threads(1)
    cases = [case for case in selftest.cases() if not pitfalls or case.pitfall in pitfalls]
    results: list[Result] = []
    with progress_bar("cases") as bar:
        task = bar.add_task("", total=len(cases), speed="")
        for position, case in enumerate(cases):
            bar.update(task, description=case.name, completed=position)
            results.append(selftest.run(case))
        bar.update(task, completed=len(cases))
    if not pitfalls:
        store.mkdir(parents=True, exist_ok=True)
        place(store / report.FILE, report.stored(results).encode())
    if as_json:
        click.echo(json.dumps(report.rows(results), indent=1))
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in report.HEADINGS:
            table.add_column(heading, overflow="fold", justify="right" if heading in ("pitfall", "PGD-CE, %") else "left")
        for row in report.rows(results):
            table.add_row(*row.values(), style=None if row["result"] in report.PASSING else "red")
        out.print(table)
        for item in thresholds.table():
            err.print(f"{item['name']} {item['value']:.4g}: {item['reason']}", style="dim", markup=False)
    failed = [result for result in results if not result.passed]
    caught = sum(row["result"] == "caught" for row in report.rows(results))
    err.print(f"{caught} faults caught, {len(failed)} results wrong", markup=False)
    if failed:
        raise SystemExit(1)
