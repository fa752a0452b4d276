"""`harness run`: attack models, store outcomes, report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model_zoo.errors import MissingDataError, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from harness.runner.plan import Plan


def _count(context: click.Context, parameter: click.Parameter, value: str | None) -> int | str | None:
    if value is None or value == "all":
        return value
    if not value.isdigit() or int(value) < 1:
        raise click.BadParameter(f"{value!r} is neither a number of images nor 'all'")
    return int(value)


@click.command("run")
@click.option("--suite", help="A named plan: smoke, quick, epsilon, full, paper (see `harness ls suites`).")
@click.option("--model", "models", multiple=True, help="A model id or the path of a record; may be repeated.")
@click.option("--attack", "attack_names", multiple=True, help="An attack; may be repeated.  [default: pgd]")
@click.option("--dataset", help="Images to attack.  [default: cifar10-sample]")
@click.option("--n", "n", callback=_count, metavar="N|all", help="Number of images, the first of the data set, or 'all'.")
@click.option("--radius", "radii", multiple=True, help="An exact fraction such as 8/255; may be repeated.  [default: the protocol's]")
@click.option("--seed", type=click.IntRange(min=0), help="Base seed.  [default: 0]")
@click.option("--data-dir", type=click.Path(path_type=Path), envvar="HARNESS_DATA_DIR", help="Where data that does not ship is.")
@click.option("--download", is_flag=True, help="Download CIFAR if it is not there.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes side by side; outcomes do not depend on it.  [default: cores]")
@click.option("--store", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="Where outcomes are kept.")
@click.option(
    "--reports",
    type=click.Path(path_type=Path),
    default=Path("reports"),
    show_default=True,
    help="Where tables and figures go, in a folder for each suite.",
)
@click.option("--compare", type=click.Path(path_type=Path), help="Another store: say on how many images its outcomes agree with these.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON instead of a table.")
def command(
    suite: str | None,
    models: tuple[str, ...],
    attack_names: tuple[str, ...],
    dataset: str | None,
    n: int | str | None,
    radii: tuple[str, ...],
    seed: int | None,
    data_dir: Path | None,
    download: bool,
    workers: int | None,
    store: Path,
    reports: Path,
    compare: Path | None,
    as_json: bool,
) -> None:
    """Attack models and store what happened to every image.

    What the store holds already is not run again, so an interrupted run continues by running it again.

    \b
    Examples:
      harness run --suite quick
      harness run --suite full --n 100
      harness run --model cifar10-rn8w28-dense --attack pgd --attack autoattack --n 200
      harness run --model my-model.toml --dataset cifar10 --data-dir ~/data --n all
    """
    plan = _plan(suite, models, attack_names, dataset, n, radii, seed, data_dir, download)
    failures = _execute(plan, store, workers or os.cpu_count() or 1)
    from harness.cli.report import make, show

    made = make(store, reports / (suite or "request"), plan)
    if made is None:
        raise SystemExit(1)
    if as_json:
        click.echo(made.frames["summary"].to_json(orient="records", indent=1))
    else:
        show(made)
    if compare is not None:
        _compare(made.outcomes, compare)
    if failures:
        raise SystemExit(1)


def _plan(
    suite: str | None,
    models: tuple[str, ...],
    attack_names: tuple[str, ...],
    dataset: str | None,
    n: int | str | None,
    radii: tuple[str, ...],
    seed: int | None,
    data_dir: Path | None,
    download: bool,
) -> Plan:
    from harness.cli.console import err
    from harness.runner.plan import plan_request, plan_suite

    if (suite is None) == (not models):
        raise UsageError("say what to run: either --suite NAME or --model ID (`harness ls suites`, `harness ls models`)")
    if suite is None:
        from harness import attacks
        from model_zoo.threat import ThreatModel, parse_radius

        names = attack_names or ("pgd",)
        norms = dict.fromkeys(attacks.get(name).norm for name in names)
        threats = [ThreatModel(norm, parse_radius(radius)) for radius in radii for norm in norms]
        count = n if isinstance(n, int) else None
        return plan_request(models, names, dataset or "cifar10-sample", count, threats, seed or 0, data_dir, download)
    if attack_names or dataset or radii or seed is not None:
        raise UsageError("a suite fixes its attacks, images, radii and seed: give only --n beside --suite, or use --model")
    from harness.runner.suite import get_suite

    plan = plan_suite(get_suite(suite), data_dir, n if isinstance(n, int) else None, n == "all", download)
    for line in plan.left_out:
        err.print(f"left out: {line}", style="dim", markup=False)
    if not plan.units:
        raise MissingDataError(f"nothing of suite {suite!r} can run here: {plan.left_out[0] if plan.left_out else 'it has no models'}")
    return plan


def _execute(plan: Plan, store: Path, workers: int) -> int:
    from harness.cli.console import err, progress_bar
    from harness.runner.execute import Event, execute
    from harness.runner.store import Store

    total = sum(len(unit.block) for unit in plan.units)
    with progress_bar("images") as bar:
        task = bar.add_task("planning", total=total, speed="–")
        done: dict[str, float] = {}

        def tell(event: Event) -> None:
            done[event.unit.id] = event.fraction * len(event.unit.block)
            current = sum(done.values())
            passed = bar.tasks[0].elapsed or 0.0
            label = f"{event.unit.record.id} · {event.message or event.unit.attack.name}"
            bar.update(task, completed=int(current), description=label, speed=f"{current / passed:.1f} images/s" if passed > 1 else "–")
            if event.kind == "failed":
                err.print(f"failed: {event.message}", style="red", markup=False)
            elif event.kind == "finished" and bar.disable:
                err.print(f"{int(current)}/{total} images · {event.unit}", markup=False)

        try:
            report = execute(plan, Store(store), tell, workers)
        except KeyboardInterrupt:
            bar.stop()
            err.print("stopped; what is finished is stored. The same command continues.")
            raise SystemExit(130) from None
    for _, line in report.at_fault:
        err.print(f"attack at fault, unit not used: {line}", style="red", markup=False)
    err.print(f"{len(report.finished)} units run, {len(report.found)} found in {store}, {len(report.failed)} failed", markup=False)
    return len(report.failed)


def _compare(frame: pd.DataFrame, other: Path) -> None:
    from harness.cli.console import err
    from harness.runner.results import agreement, read

    agree, both = agreement(frame, read(other))
    if both:
        err.print(f"outcomes agree with {other} on {agree} of {both} images ({100 * agree / both:.2f} %)", markup=False)
    else:
        err.print(f"{other} holds no outcomes of these models and images to compare with", markup=False)
