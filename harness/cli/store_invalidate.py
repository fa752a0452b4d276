"""`harness store invalidate`: declare outcomes invalid."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.cli.options import data_dir_option, json_option, store_option


@click.command("invalidate")
@click.argument("units", nargs=-1)
@click.option("--suite", help="Select units of this suite.")
@click.option("--model", "models", multiple=True, help="Select units of this model: an id, or the path of a record; may be repeated.")
@click.option("--attack", "attacks", multiple=True, help="Select units of this attack; may be repeated.")
@click.option("--dataset", "datasets", multiple=True, help="Select units on this data set; may be repeated.")
@click.option("--radius", "radii", multiple=True, help="Select units of this radius, such as 8/255; may be repeated.")
@click.option("--n", "n", type=click.IntRange(min=1), help="Select units with this number of images.")
@click.option("--engine", help="Select units with this engine.")
@click.option("--seed", type=click.IntRange(min=0), help="Select units with this base seed.")
@data_dir_option()
@store_option()
@click.option("--dry-run", is_flag=True, help="List the units and change nothing.")
@click.option("--reason", required=True, help="Reason, in one sentence; it is printed below every report.")
@json_option()
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
    as_json: bool,
) -> None:
    """Declare finished units invalid: those of UNITS (the first characters of their ids; all if none are named) that the options select.

    An option that is not used selects everything. Invalid outcomes are excluded from all numbers and count as missing, so that the next run
    computes them again. The reason is stored with them and printed in reports.

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
    rows = []
    for manifest in manifests:
        if not dry_run:
            result_store.invalidate(manifest.unit, reason)
        labels = manifest.labels
        threat = f"{labels.norm} {labels.radius}"
        rows.append({"unit": manifest.unit, "model": labels.model, "attack": labels.attack, "dataset": labels.dataset, "threat": threat})
        if not as_json:
            description = f"{labels.model} · {labels.attack} · {labels.dataset} · {threat}, {manifest.images} images"
            out.print(f"{manifest.unit[:12]} {description}", markup=False)
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    change = "would become invalid" if dry_run else f"are invalid now: {reason}"
    out.print(f"{len(manifests)} units of {store} {change}", markup=False)
