"""`harness verify`: hash everything again."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("verify")
@click.option("--store", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="The store to look at.")
def command(store: Path) -> None:
    """Hash again every outcome, every identity, every stored image and every registered checkpoint; exits with 1 if one is not as it was.

    \b
    Examples:
      harness verify
      harness verify --store other/results
    """
    from harness.cli.console import err, out
    from harness.runner.store import Store
    from harness.runner.verify import verify
    from model_zoo import registry
    from model_zoo.errors import UserError
    from model_zoo.packing.packed import check_file

    sound, problems = verify(Store(store))
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
    out.print(
        f"{sound} units of {store} and {len(models) - len(absent)} registered models looked at, {len(problems)} problems", markup=False
    )
    if problems:
        raise SystemExit(1)
