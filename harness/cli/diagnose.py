"""`harness diagnose`: measure whether a model's robustness is real."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from harness.cli.options import json_option, store_option

if TYPE_CHECKING:
    from harness.runner.diagnoses import Diagnosis


@click.command("diagnose")
@click.argument("models", nargs=-1)
@click.option("--n", type=click.IntRange(min=1), default=250, show_default=True, help="Number of images, the first of the data set.")
@click.option("--radius", help="An exact Linf radius such as 8/255.  [default: the protocol's for the model's data]")
@store_option("Where diagnostics are kept.")
@json_option()
def command(models: tuple[str, ...], n: int, radius: str | None, store: Path, as_json: bool) -> None:
    """Check whether the robustness of MODELS (ids or paths of records; by default all that ship) is real: ok, suspicious or masked.

    The checks look for missing gradients, saturated logits, attacks without gradients that beat gradient attacks (Square, RayS, transfer,
    descent), robustness that does not fall with the radius, and attacks that have not converged. Stored diagnoses are not measured again;
    reports show a verdict with numbers of the same data and radius. docs/pitfalls.md says how often a verdict is wrong.

    \b
    Examples:
      harness diagnose cifar10-rn8w32-pruned-binary-k05-p01
      harness diagnose my-model.toml --n 100 --json
    """
    from harness.api.diagnosing import diagnose
    from harness.cli.console import err, out, progress_bar
    from model_zoo import registry
    from model_zoo.errors import UserError
    from model_zoo.references import parse_recorded

    chosen = models or tuple(model for model in registry.model_ids() if registry.absence(model) is None)
    done: list[Diagnosis] = []
    failed = 0
    with progress_bar("models") as bar:
        task = bar.add_task("", total=len(chosen), speed="")
        for position, model in enumerate(chosen):
            record = parse_recorded(model).describe()

            def tell(fraction: float, what: str, position: int = position, name: str = record.id) -> None:
                bar.update(task, completed=position + fraction, description=f"{name} · {what}")

            try:
                done.append(diagnose(model, n=n, radius=radius, store=store, progress=tell))
            except UserError as error:
                failed += 1
                err.print(f"failed: {record.id}: {error}", style="red", markup=False)
        bar.update(task, completed=len(chosen))
    if as_json:
        click.echo(json.dumps([_plain(one) for one in done], indent=1))
    else:
        out.print(_table(done))
        for one in done:
            for reason in one.verdict.reasons:
                out.print(f"{one.model}: {reason.level}: {reason.text}", markup=False)
            for name in one.verdict.untested:
                out.print(f"{one.model}: {name}: not tested (no shipped models of its data)", markup=False)
    if failed:
        raise SystemExit(1)


def _plain(one: Diagnosis) -> dict[str, Any]:
    named = {"model": one.model, "dataset": one.dataset, "threat": one.threat, "n": one.found.images, "verdict": one.verdict.level}
    return {**named, "reasons": [vars(reason) for reason in one.verdict.reasons], "diagnostics": one.found.to_dict()}


def _table(done: list[Diagnosis]) -> Table:
    from harness.evaluation.diagnostics import ROBUST

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", overflow="fold")
    for heading in ("n", "no CE gradient", "PGD-CE", "PGD-margin", "Square", "noise", "transfer", "64/255"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    for one in done:
        found = one.found
        shown = {**found.robust, "large": found.sweep[max(found.sweep, key=Fraction)]}
        shares = [shown.get(probe) for probe in ("ce", "margin", "square", "noise", "transfer", "large")]
        cells = ["–" if robust is None else f"{100 * robust.count(ROBUST) / found.images:.1f}" for robust in shares]
        zero = f"{100 * found.share(found.no_gradient['ce']):.1f}"
        table.add_row(one.model, str(found.images), zero, *cells, one.verdict.level)
    table.caption = "Robust accuracy in per cent of all n images, under each probe alone; transfer: examples made on other models."
    table.caption_justify = "left"
    return table
