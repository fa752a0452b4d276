"""`harness run`: attack models, store the outcomes and report them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import executor_options, json_option
from harness.cli.planned import planned, warn_of_guessing

if TYPE_CHECKING:
    import pandas as pd

    from harness.runner.execute import Report
    from harness.runner.plan import Plan, Unit

# The keys of harness.runner.execute.EXISTING, which is too slow to import for a help text; a test checks that they agree.
EXISTING = ("only-missing", "always", "never", "only-cache")


@click.command("run")
@planned
@click.option(
    "--workers", type=click.IntRange(min=1), help="Number of units that run in parallel; does not change outcomes.  [default: cores]"
)
@executor_options
@click.option(
    "--existing",
    type=click.Choice(EXISTING),
    default="only-missing",
    show_default=True,
    help="Which units to run: those missing in the store, all, those of models and attacks without any stored outcome, or none.",
)
@click.option(
    "--reports",
    type=click.Path(path_type=Path),
    default=Path("reports"),
    show_default=True,
    help="Folder for tables and figures, with one folder per suite.",
)
@click.option(
    "--compare", type=click.Path(path_type=Path), help="Another store to compare with: counts the images on which the outcomes agree."
)
@json_option("Print the summary as JSON instead of a table.")
def command(
    make_plan: Callable[[], Plan],
    suite: str | None,
    store: Path,
    workers: int | None,
    executor: str | None,
    cpus: float,
    gpus: float,
    device: str,
    existing: str,
    reports: Path,
    compare: Path | None,
    as_json: bool,
) -> None:
    """Attack models and store the outcome of every image.

    Units that the store already has are not run again, so the same command continues an interrupted run. Several runs, on one machine or
    on several that share the store's folder, divide the work between them.

    \b
    Examples:
      harness run --suite quick
      harness run --suite full --n 100
      harness run --model cifar10-rn8w28-dense --attack pgd --attack autoattack --n 200
      harness run --model robustbench:Addepalli2022Efficient_RN18 --dataset robustbench-cifar10 --attack autoattack --n 50
      harness run --model my-model.toml --dataset cifar10 --data-dir ~/data --n all
      RAY_ADDRESS=auto harness run --suite full --executor ray --device cuda --gpus-per-unit 0.25
    """
    from harness.api.reporting import report_plan
    from harness.cli.report import show, warn
    from harness.runner.results import find
    from harness.runner.store import Store
    from harness.runner.suite import get_suite
    from model_zoo.files import file_name

    plan = make_plan()
    settings = {"executor": executor, "existing": existing, "cpus": cpus, "gpus": gpus, "device": device}
    report = execute_plan(plan, store, workers or os.cpu_count() or 1, settings)
    result_store = Store(store)
    folder = reports / ("request" if suite is None else file_name(get_suite(suite).name))
    suite_report = report_plan(result_store, find(result_store.read_all(), plan), folder, plan, on_message=warn)
    if suite_report is None:
        raise SystemExit(1)
    if as_json:
        click.echo(suite_report.frames[suite_report.main_table].to_json(orient="records", indent=1))
    else:
        show(suite_report)
    classes = {unit.block.name: len(unit.block.classes) for unit in plan.units}
    for _, row in suite_report.frames[suite_report.main_table].drop_duplicates(["model", "dataset"]).iterrows():
        if row["clean_n"]:
            warn_of_guessing(row["model"], row["clean_low"], classes[row["dataset"]])
    if compare is not None:
        _print_agreement(suite_report.outcomes, compare)
    if report.failed or (report.absent and suite is None):
        raise SystemExit(1)


def execute_plan(plan: Plan, store: Path, workers: int, options: dict[str, Any]) -> Report:
    """Run a plan with a progress bar and print a summary; `options` contains keyword arguments of `harness.runner.execute.execute`."""
    from harness.cli.console import err, progress_bar
    from harness.runner.execute import Event, execute
    from harness.runner.store import Store

    total = sum(len(unit.block) for unit in plan.units)
    with progress_bar("images") as bar:
        task = bar.add_task("planning", total=total, speed="–")
        images_done: dict[str, float] = {}

        def on_event(event: Event[Unit]) -> None:
            images_done[event.unit.id] = event.fraction * len(event.unit.block)
            current = sum(images_done.values())
            elapsed = bar.tasks[0].elapsed or 0.0
            label = f"{event.unit.record.id} · {event.message or event.unit.attack.name}"
            bar.update(task, completed=int(current), description=label, speed=f"{current / elapsed:.1f} images/s" if elapsed > 1 else "–")
            if event.kind == "failed":
                err.print(f"failed: {event.message}", style="red", markup=False)
            elif event.kind == "ended":
                err.print(event.message, style="yellow", markup=False)
            elif event.kind == "finished" and bar.disable:
                err.print(f"{int(current)}/{total} images · {event.unit}", markup=False)

        try:
            report = execute(plan, Store(store), on_event, workers, **options)
        except KeyboardInterrupt:
            bar.stop()
            err.print("stopped; finished units are stored. The same command continues.")
            raise SystemExit(130) from None
    for _, line in report.at_fault:
        err.print(f"attack at fault, unit not used: {line}", style="red", markup=False)
    for line in report.absent:
        err.print(f"left out: {line}", style="dim", markup=False)
    not_run_text = f", {len(report.not_run)} left" if report.not_run else ""
    counts = f"{len(report.finished)} units run, {len(report.stored)} already in {store}, {len(report.failed)} failed{not_run_text}"
    err.print(counts, markup=False)
    return report


def _print_agreement(frame: pd.DataFrame, other_store: Path) -> None:
    from harness.cli.console import err
    from harness.runner.results import agreement, read

    agreeing, common = agreement(frame, read(other_store))
    if common:
        err.print(f"outcomes agree with {other_store} on {agreeing} of {common} images ({100 * agreeing / common:.2f} %)", markup=False)
    else:
        err.print(f"{other_store} has no outcomes of these models and images to compare with", markup=False)
