"""Run the doors and print a table of results: `python -m tests.fuzz [--door NAME]... [--counts full|ci] [--case NUMBER]`."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import time

import click
import torch

from tests.fuzz.frame import SEED, doors, run_door


@click.command()
@click.option("--door", "names", multiple=True, type=click.Choice(list(doors())), help="Run only this door; repeatable.")
@click.option("--counts", type=click.Choice(["full", "ci"]), default="full", show_default=True, help="Number of cases per door.")
@click.option("--case", "number", type=int, help="Run only the case with this number, for example one that failed.")
def run(names: tuple[str, ...], counts: str, number: int | None) -> None:
    """Test every door with thousands of damaged and unusual inputs; exit with status 1 if any case fails."""
    torch.set_num_threads(1)
    lines = ["| door | tried | failed | seeds | seconds |", "| --- | ---: | ---: | --- | ---: |"]
    has_failed = False
    for name, door in doors().items():
        if names and name not in names:
            continue
        numbers = range(door.full if counts == "full" else door.ci) if number is None else range(number, number + 1)
        started = time.monotonic()
        count = run_door(door, numbers, lambda case, trace, name=name: click.echo(f"{name} --case {case}\n{trace}", err=True))
        has_failed |= bool(count.failed)
        seeds = f"{SEED}/{name}/{numbers[0]} to {numbers[-1]}"
        lines.append(f"| {name} | {count.tried:,} | {len(count.failed)} | {seeds} | {time.monotonic() - started:.0f} |")
    click.echo("\n".join(lines))
    raise SystemExit(has_failed)


if __name__ == "__main__":
    run()
