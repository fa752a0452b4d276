"""Running, planning and drawing for `harness reproduce`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model_zoo.errors import UnknownNameError

if TYPE_CHECKING:
    from harness.runner.execute import Event

FIGURE = "figure-"
# Folder of the paper's figures, which `harness report` writes too.
FIGURE_FOLDER = Path("reports") / "paper"


def is_figure(name: str) -> bool:
    """Return whether a name is that of a figure, such as "figure-3" or "liu2022-figure-3"."""
    return name.removeprefix("liu2022-").startswith(FIGURE)


def draw(name: str, scale: str, store: Path, data_dir: Path | None) -> None:
    """Draw one figure of the paper into `FIGURE_FOLDER`, and print its path."""
    from harness.reporting.style import save
    from harness.reproduction.cells import CellStore
    from harness.reproduction.figures import FIGURES

    full_name = name if name in FIGURES else f"liu2022-{name}"
    if full_name not in FIGURES:
        raise UnknownNameError("figure", name, FIGURES, "harness reproduce")
    cells = CellStore.open(store, scale, data_dir)
    (path,) = save(FIGURES[full_name](cells), FIGURE_FOLDER / full_name, ("png",))
    click.echo(f"figure: {path}")


def run(
    table: str,
    scale: str,
    rows: Sequence[str],
    columns: Sequence[str],
    store: Path,
    data_dir: Path | None,
    workers: int,
    options: dict[str, Any],
) -> bool:
    """Train and attack what is missing of a table with a progress bar; return whether something failed."""
    from harness.api.reproducing import run_table
    from harness.cli.console import err, progress_bar
    from harness.runner.training_unit import TrainingUnit

    with progress_bar("% of this unit") as bar:
        tasks: dict[str, Any] = {}

        def on_event(event: Event[Any]) -> None:
            unit, is_training = event.unit, isinstance(event.unit, TrainingUnit)
            name = f"train {unit.recipe.id}" if is_training else f"attack {unit.record.id} [{unit.block.index[0]}\u2026]"
            if event.kind == "progress":
                if unit.id not in tasks:
                    if bar.disable:
                        err.print(f"begin: {name}", markup=False)
                    tasks[unit.id] = bar.add_task(name, total=100, speed="")
                bar.update(tasks[unit.id], completed=int(100 * event.fraction), speed=event.message)
            elif unit.id in tasks:
                bar.remove_task(tasks.pop(unit.id))
            if event.kind in ("failed", "ended"):
                err.print(event.message, style="red", markup=False)

        try:
            report = run_table(table, scale, rows, columns, store, data_dir, workers, on_event=on_event, **options)
        except KeyboardInterrupt:
            bar.stop()
            err.print("stopped; finished units are stored, and an unfinished training is at most a minute old. The same command continues.")
            raise SystemExit(130) from None
    for line in report.failed:
        err.print(f"failed: {line}", style="red", markup=False)
    for reason in dict.fromkeys(obstacle.reason for obstacle in report.obstacles):
        err.print(f"left out: {reason}", style="dim", markup=False)
    counts = f"{report.trained} models trained, {report.attacked} blocks of images attacked, {len(report.failed)} failed"
    err.print(f"{counts}, {len(report.obstacles)} models left out", markup=False)
    return bool(report.failed)


def show_plan(
    table: str,
    scale: str,
    rows: Sequence[str],
    columns: Sequence[str],
    store: Path,
    data_dir: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Print which models of a table are missing at a scale, and how long training and attacking them takes."""
    from rich.table import Table

    from harness.cli.console import err, out
    from harness.cli.planned import duration
    from harness.reproduction.cells import CellStore
    from harness.reproduction.cost import attack_seconds, training_seconds
    from harness.reproduction.specification import get

    cells = CellStore.open(store, scale, data_dir)
    settings = get(table).trainings(rows, columns)
    units, obstacles = cells.missing_trainings(settings, device)
    seconds = training_seconds(cells, units, lambda name: err.print(f"timing {name} for a few steps", style="dim", markup=False))
    attacks = attack_seconds(cells, len(units))
    if as_json:
        trainings = [{"recipe": unit.recipe.id, "training_seconds": value} for unit, value in zip(units, seconds, strict=True)]
        omitted = [{"settings": item.settings.slug, "reason": item.reason} for item in obstacles]
        click.echo(json.dumps({"trainings": trainings, "attack_seconds": attacks, "omitted": omitted}, indent=1))
        return
    printed = Table(box=None, pad_edge=False, header_style="bold")
    printed.add_column("model to train", overflow="fold")
    printed.add_column("time on one core", justify="right")
    for unit, value in zip(units, seconds, strict=True):
        printed.add_row(unit.recipe.id, duration(value))
    if units:
        out.print(printed)
    for reason in dict.fromkeys(item.reason for item in obstacles):
        err.print(f"left out: {reason}", style="dim", markup=False)
    attack_text = "an unknown time" if attacks is None else f"about {duration(attacks)}"
    done = len(settings) - len(units) - len(obstacles)
    text = f"{len(settings)} models: {done} trained, {len(units)} to train in about {duration(sum(seconds))}"
    out.print(f"{text} and to attack in {attack_text}, {len(obstacles)} that scale {scale} has not", markup=False, soft_wrap=True)
