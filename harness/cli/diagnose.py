"""`harness diagnose`: measure whether a model's robustness is real."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from harness.cli.options import data_dir_option, image_options, json_option, store_option
from harness.cli.planned import print_note

if TYPE_CHECKING:
    from harness.runner.diagnoses import Diagnosis


@click.command("diagnose")
@click.argument("models", nargs=-1)
@click.option(
    "--n", type=click.IntRange(min=1), default=250, show_default=True, help="Number of images, taken from the start of the data set."
)
@image_options("Images to diagnose on, registered or your own (docs/data.md).  [default: a sample of the model's data]")
@data_dir_option()
@click.option("--radius", help="An exact Linf radius such as 8/255.  [default: the protocol's for the data]")
@store_option("Folder with stored diagnostics.")
@json_option()
def command(
    models: tuple[str, ...], n: int, dataset: str | None, data_dir: Path | None, radius: str | None, store: Path, as_json: bool
) -> None:
    """Check whether the robustness of MODELS (ids or paths of records; by default all shipped models) is real: ok, suspicious or masked.

    The checks look for missing gradients, saturated logits, attacks without gradients that beat gradient attacks (Square, RayS, transfer,
    descent), robustness that does not fall with the radius, and attacks that have not converged. Stored diagnoses are not measured again;
    reports show a verdict with numbers of the same data and radius. docs/pitfalls.md shows how often a verdict is wrong.

    \b
    Examples:
      harness diagnose cifar10-rn8w32-pruned-binary-k05-p01
      harness diagnose my-model.toml --n 100 --json
      harness diagnose added/my-net.toml --dataset digits.npz --radius 8/255
    """
    from harness.api.diagnosing import diagnose
    from harness.cli.console import err, out, progress_bar
    from model_zoo import registry
    from model_zoo.errors import UserError
    from model_zoo.references import parse_recorded

    model_names = models or tuple(model for model in registry.model_ids() if registry.absence(model) is None)
    diagnoses: list[Diagnosis] = []
    failed = 0
    with progress_bar("models") as bar:
        task = bar.add_task("", total=len(model_names), speed="")
        for position, model in enumerate(model_names):
            record = parse_recorded(model).describe()

            def on_progress(fraction: float, component: str, position: int = position, name: str = record.id) -> None:
                bar.update(task, completed=position + fraction, description=f"{name} · {component}")

            try:
                diagnoses.append(
                    diagnose(
                        model,
                        n=n,
                        radius=radius,
                        dataset=dataset,
                        data_dir=data_dir,
                        store=store,
                        progress=on_progress,
                        on_message=print_note,
                    )
                )
            except UserError as error:
                failed += 1
                err.print(f"failed: {record.id}: {error}", style="red", markup=False)
        bar.update(task, completed=len(model_names))
    if as_json:
        click.echo(json.dumps([_to_dict(diagnosis) for diagnosis in diagnoses], indent=1))
    else:
        out.print(_table(diagnoses))
        for diagnosis in diagnoses:
            for reason in diagnosis.verdict.reasons:
                out.print(f"{diagnosis.model}: {reason.level}: {reason.text}", markup=False)
            for name in diagnosis.verdict.untested:
                out.print(f"{diagnosis.model}: {name}: not tested (no shipped models of its data)", markup=False)
    if failed:
        raise SystemExit(1)


def _to_dict(diagnosis: Diagnosis) -> dict[str, Any]:
    labels = {
        "model": diagnosis.model,
        "dataset": diagnosis.dataset,
        "threat": diagnosis.threat,
        "n": diagnosis.diagnostics.images,
        "verdict": diagnosis.verdict.level,
    }
    return {**labels, "reasons": [vars(reason) for reason in diagnosis.verdict.reasons], "diagnostics": diagnosis.diagnostics.to_dict()}


def _table(diagnoses: list[Diagnosis]) -> Table:
    from harness.evaluation.diagnostics import ROBUST

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", overflow="fold")
    for heading in ("n", "no CE gradient", "PGD-CE", "PGD-margin", "Square", "noise", "transfer", "64/255"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    for diagnosis in diagnoses:
        measured = diagnosis.diagnostics
        robust_marks = {**measured.robust, "large": measured.sweep[max(measured.sweep, key=Fraction)]}
        shares = [robust_marks.get(probe) for probe in ("ce", "margin", "square", "noise", "transfer", "large")]
        cells = ["–" if robust is None else f"{100 * robust.count(ROBUST) / measured.images:.1f}" for robust in shares]
        no_ce_gradient = f"{100 * measured.share(measured.no_gradient['ce']):.1f}"
        table.add_row(diagnosis.model, str(measured.images), no_ce_gradient, *cells, diagnosis.verdict.level)
    table.caption = "Robust accuracy in per cent of all n images, under each probe alone; transfer: examples made on other models."
    table.caption_justify = "left"
    return table
