"""The tables of a paper from Python: published numbers, and what was measured for their cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from harness.reproduction.running import CellReport
    from harness.runner.execute import Event


def reproduce(
    table: str,
    *,
    scale: str | None = None,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    store: str | Path = "results",
    data_dir: str | Path | None = None,
    workers: int = 1,
    executor: str | None = None,
    device: str = "cpu",
    on_event: Callable[[Event[Any]], None] = lambda event: None,
) -> pd.DataFrame:
    """Return a table of the paper as a long frame; with a scale, train and attack what is missing first.

    Parameters
    ----------
    table : str
        "table-1" or "liu2022-1", or the path of a TOML file.
    scale : str, optional
        "paper", "small", or the path of a TOML file. None starts nothing.
    rows, columns : sequence of str
        Names or labels of the rows and columns; all by default.
    store : path
        Where outcomes are kept; those of cells and their models are in its folder "cells".
    data_dir : path, optional
        Where data that does not ship is; see `harness.datasets.data_folder`.
    workers, executor, device
        As for `harness run`.
    on_event : callable, optional
        Called with the events of trainings and attacks.

    Returns
    -------
    pandas.DataFrame
        One row per published cell, see `harness.reproduction.grid.long`; for a computed table, its numbers.

    Raises
    ------
    UserError
        If there is no such table, row, column or scale, or a file is damaged.
    """
    from harness.reproduction.made import make
    from harness.reproduction.measurements import stored
    from harness.reproduction.specification import get
    from harness.runner.store import Store

    folder = None if data_dir is None else Path(data_dir)
    if scale is not None:
        run_table(table, scale, rows, columns, Path(store), folder, workers, executor=executor, device=device, on_event=on_event)
    return make(get(table), stored(Store(Path(store)), folder, scale), rows, columns).frame


def run_table(
    table: str,
    scale: str,
    rows: Sequence[str],
    columns: Sequence[str],
    store: Path,
    data_dir: Path | None,
    workers: int,
    *,
    executor: str | None = None,
    cpus: float = 1.0,
    gpus: float = 0.0,
    device: str = "cpu",
    on_event: Callable[[Event[Any]], None] = lambda event: None,
) -> CellReport:
    """Train and attack the models of a table that are missing; the parameters are those of `reproduce` and `harness run`."""
    from harness.reproduction.cells import CellStore
    from harness.reproduction.running import run_cells
    from harness.reproduction.specification import get

    cells = CellStore.open(store, scale, data_dir)
    settings = get(table).trainings(rows, columns)
    return run_cells(cells, settings, on_event, workers, executor=executor, cpus=cpus, gpus=gpus, device=device)
