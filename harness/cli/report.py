"""`harness report`: tables and figures from a store; starts no attack."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model_zoo.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Made:
    """What a report was made from and where it is."""

    frame: pd.DataFrame
    summary: pd.DataFrame
    paths: list[Path]

    def print(self) -> None:
        """Print the summary table, and name the main table and figure."""
        from harness.cli.console import err, out
        from harness.reporting import tables

        for table in tables.terminal(tables.get("summary"), self.summary):
            out.print(table)
        main = [next((path for path in self.paths if path.suffix == suffix), None) for suffix in (".md", ".png")]
        for what, path in zip(("table", "figure"), main, strict=True):
            if path is not None:
                err.print(f"{what}: {path}", markup=False)


def make(store: Path, reports: Path, unit_ids: Iterable[str] | None = None) -> Made:
    """Build every table and figure of a store into `reports`; `summary` is of the given units alone where there are any."""
    from harness.cli.console import err
    from harness.reporting import frames, report
    from harness.runner.results import outcomes
    from harness.runner.store import Store
    from model_zoo.catalogue import catalogue

    frame, damaged = outcomes(Store(store))
    for error in damaged:
        err.print(f"skipped: {error}", style="yellow", markup=False)
    if frame.empty:
        raise UserError(f"no outcomes in {store}: `harness run --suite quick` makes some")
    models = catalogue(frame["model"].unique())
    paths = report.build(frame, models, reports)
    shown = frame if unit_ids is None else frame[frame["unit"].isin(set(unit_ids))]
    return Made(shown, frames.summary(shown, models), paths)


@click.command("report")
@click.option("--store", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="Where outcomes are kept.")
@click.option("--out", "reports", type=click.Path(path_type=Path), default=Path("reports"), show_default=True, help="Where to write.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON instead of a table.")
def command(store: Path, reports: Path, as_json: bool) -> None:
    """Rebuild every table (CSV, Markdown, LaTeX) and figure (PNG, SVG) from stored outcomes.

    \b
    Examples:
      harness report
      harness report --store other/results --out other/reports
    """
    made = make(store, reports)
    if as_json:
        click.echo(made.summary.to_json(orient="records", indent=1))
        return
    made.print()
