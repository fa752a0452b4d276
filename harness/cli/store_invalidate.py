"""`harness store invalidate`: declare outcomes invalid."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import data_dir_option, store_option


@click.command("invalidate")
@click.argument("units", nargs=-1)
@click.option("--suite", help="Only units of this suite's cells.")
@click.option("--model", "models", multiple=True, help="Only of this model: an id, or the path of a record; may be repeated.")
@click.option("--attack", "attacks", multiple=True, help="Only of this attack; may be repeated.")
@click.option("--dataset", "datasets", multiple=True, help="Only on these images; may be repeated.")
@click.option("--radius", "radii", multiple=True, help="Only of this radius, such as 8/255; may be repeated.")
@click.option("--n", "n", type=click.IntRange(min=1), help="Only units of so many images.")
@click.option("--engine", help="Only with this engine.")
@click.option("--seed", type=click.IntRange(min=0), help="Only with this base seed.")
@data_dir_option()
@store_option()
@click.option("--dry-run", is_flag=True, help="List the units and change nothing.")
@click.option("--reason", required=True, help="Why; one sentence, which stands below every report.")
def command(
    units: tuple[str, ...],
    suite: str | None,
    models: tuple[str, ...],
    attacks: tuple[str, ...],
    datasets: tuple[str, ...],
    radii: tuple[str, ...],
    n: int | None,
    engine: str | None,
    seed: int | None,
    data_dir: Path | None,
    store: Path,
    dry_run: bool,
    reason: str,
) -> None:
    """Declare finished units invalid: those of UNITS (the first characters of their ids; all if none are named) that the options select.

    An option that is not given selects everything. Invalid outcomes enter no number, count as missing, and are run again by the next run;
    the reason stays with them and stands in reports.

    \b
    Examples:
      harness store invalidate 51e7b4a4 --reason "the machine had faulty memory"
      harness store invalidate --model cifar10-rn8w28-dense --attack pgd --reason "wrong step size"
    """
    from harness.cli.console import out
    from harness.runner.select import Filter, selected
    from harness.runner.store import Store
    from model_zoo.errors import UsageError

    result_store = Store(store)
    conditions = Filter(units, suite, models, attacks, datasets, radii, n, engine, seed)
    manifests = selected(result_store, conditions, data_dir)
    if not manifests:
        raise UsageError(f"{store} holds none of these units")
    for manifest in manifests:
        if not dry_run:
            result_store.invalidate(manifest.unit, reason)
        labels = manifest.labels
        description = f"{labels.model} · {labels.attack} · {labels.dataset} · {labels.norm} {labels.radius}"
        out.print(f"{manifest.unit[:12]} {description}, {manifest.images} images", markup=False)
    change = "would become invalid" if dry_run else f"are invalid now: {reason}"
    out.print(f"{len(manifests)} units of {store} {change}", markup=False)
