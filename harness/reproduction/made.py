"""Tables of a paper with their numbers: the frame and the laid out parts of a measured or computed table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.reporting.tables import Table
from harness.reproduction.grid import Grid, fill, long
from harness.reproduction.layout import lay_out, stacked
from harness.reproduction.measurements import Measurements
from harness.reproduction.specification import LISTING, PaperTable
from model_zoo.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Made:
    """Specification of a table, its frame, its parts for `harness.reporting.renderers`, and its grid (None if it is computed)."""

    spec: PaperTable
    frame: pd.DataFrame
    parts: list[Table]
    grid: Grid | None = None


def make(
    table: PaperTable, measurements: Measurements, rows: Sequence[str] = (), columns: Sequence[str] = (), width: int | None = None
) -> Made:
    """Return a table with its measurements.

    Parameters
    ----------
    rows, columns : sequence of str
        Names or labels of the rows and columns to show; all by default.
    width : int, optional
        Width of a terminal: labels of a row are in one column, and columns that do not fit are placed below.

    Raises
    ------
    UsageError
        If rows or columns are asked of a computed table.
    UnknownNameError
        If there is no such row or column.
    """
    if table.computed is not None:
        if rows or columns:
            raise UsageError(f"{table.name} is computed and has no cells to choose; `{LISTING} {table.name}` shows all of it")
        frame, parts = _compute(table)
        return Made(table, frame, parts)
    grid = fill(table, measurements, rows, columns)
    return Made(table, long(grid), [lay_out(grid)] if width is None else stacked(lay_out(grid, narrow=True), width), grid)


def _compute(table: PaperTable) -> tuple[pd.DataFrame, list[Table]]:
    if table.computed == "operations":
        from harness.reproduction.operations import operations

        return operations(table)
    from harness.reproduction.widths import widths

    return widths(table)
