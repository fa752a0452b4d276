"""`harness store verify`: check the files of a store and the registered checkpoints against their hashes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from harness.cli.options import json_option, store_option


@click.command("verify")
@store_option("Folder of the store to verify.")
@json_option("Print one JSON object, for scripts.")
def command(store: Path, as_json: bool) -> None:
    """Check every outcome, identity, picture, diagnosis and registered checkpoint against its hash; exit with 1 if one differs.

    \b
    Examples:
      harness store verify
      harness store verify --store other/results
    """
    from harness.cli.console import err, out
    from harness.runner.store import Store
    from harness.runner.verify import verify
    from model_zoo import registry
    from model_zoo.errors import UserError
    from model_zoo.packing.packed import check_file

    verified = verify(Store(store))
    problems = verified.problems
    models, absent = registry.model_ids(), []
    for model in models:
        reason = registry.absence(model)
        if reason is not None:
            absent.append(reason)
            continue
        try:
            record = registry.get_record(model)
            check_file(registry.checkpoint_path(model), record.checkpoint.sha256, record.checkpoint.bytes)
        except UserError as error:
            problems.append(str(error))
    for line in absent:
        err.print(f"left out: {line}", style="dim", markup=False)
    for line in problems:
        err.print(line, style="red", markup=False)
    if verified.without_pictures:
        err.print(f"not stored: the pictures of {verified.without_pictures:,} units", style="dim", markup=False)
    if as_json:
        click.echo(json.dumps({**dataclasses.asdict(verified), "models": len(models) - len(absent), "absent_models": absent}, indent=1))
    else:
        trainings = f", {verified.trainings:,} trainings" if verified.trainings else ""
        out.print(
            f"{verified.units:,} units, {verified.diagnoses:,} diagnoses{trainings} of {store} and {len(models) - len(absent)}"
            f" registered models are unchanged, {len(problems)} problems",
            markup=False,
            soft_wrap=True,
        )
    if problems:
        raise SystemExit(1)
