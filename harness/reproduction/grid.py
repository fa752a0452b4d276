"""Cells of a table with what was measured for them, and the same numbers as a long frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.reproduction.measurements import SCALES, Measurement, Measurements
from harness.reproduction.specification import PaperTable, TableCell

if TYPE_CHECKING:
    import pandas as pd

# A difference to the published value is significant if its p-value is below this level.
LEVEL = 0.05


@dataclass(frozen=True)
class Grid:
    """A table and its measurements: `cells` are those that are shown, `measured` has the measurements of each scale by row and column."""

    table: PaperTable
    cells: tuple[TableCell, ...]
    measured: Mapping[str, Mapping[tuple[str, str], Measurement]]

    def measurement(self, scale: str, row: str, column: str) -> Measurement | None:
        """Return what was measured for a cell at a scale; None if nothing was."""
        return self.measured[scale].get((row, column))

    def counts(self, scale: str) -> list[tuple[str, int, int]]:
        """Return how many cells are measured at a scale and how many there are, for every group of columns (the first of two labels)."""
        groups: dict[str, list[TableCell]] = {}
        for cell in self.cells:
            groups.setdefault(cell.column.labels[0] if len(cell.column.labels) > 1 else "", []).append(cell)
        done = self.measured[scale]
        return [(group, sum((cell.row.name, cell.column.name) in done for cell in cells), len(cells)) for group, cells in groups.items()]


def fill(table: PaperTable, measurements: Measurements, rows: Sequence[str] = (), columns: Sequence[str] = ()) -> Grid:
    """Return the cells of a table, or those in the given rows and columns, with their measurements at every scale."""
    cells = tuple(table.choose(rows, columns))
    measured: dict[str, dict[tuple[str, str], Measurement]] = {scale: {} for scale in SCALES}
    for scale, by_place in measured.items():
        for cell in cells:
            measurement = measurements(cell.settings, table.measure, scale)
            if measurement is not None:
                by_place[cell.row.name, cell.column.name] = measurement
    return Grid(table, cells, measured)


def long(grid: Grid) -> pd.DataFrame:
    """Return one row per published cell of a grid.

    Returns
    -------
    pandas.DataFrame
        `table, row, column, measure, slug` (of the settings), `published` (a fraction), `page, note`, and for each scale SCALE the columns
        SCALE_measured (a fraction), SCALE_successes, SCALE_n, SCALE_planned, SCALE_low, SCALE_high (95 % Wilson interval),
        SCALE_difference (measured less published), SCALE_p (two-sided exact binomial test of the measured count against the published
        proportion), SCALE_significant (p < 0.05), SCALE_attack, SCALE_marks (of the model and of its units, joined by ", ") and
        SCALE_seeds (number of training seeds). They are missing for a cell that was not measured.
    """
    import pandas as pd

    rows = []
    for cell in grid.cells:
        shared = {"table": grid.table.name, "row": cell.row.name, "column": cell.column.name, "measure": grid.table.measure}
        value = {"slug": cell.settings.slug, "published": cell.published.value, "page": cell.published.page, "note": cell.published.note}
        row: dict[str, Any] = {**shared, **value}
        for scale in SCALES:
            measurement = grid.measurement(scale, cell.row.name, cell.column.name)
            row |= {f"{scale}_{name}": number for name, number in numbers(measurement, cell.published.value).items()}
        rows.append(row)
    counts = [f"{scale}_{name}" for scale in SCALES for name in ("successes", "n", "planned", "seeds")]
    return pd.DataFrame(rows).astype(dict.fromkeys(counts, "Int64"))


def numbers(measurement: Measurement | None, published: float) -> dict[str, Any]:
    """Return the numbers of a measurement, and how it compares with the published proportion; None for all if there is none."""
    names = ("measured", "successes", "n", "planned", "low", "high", "difference", "p", "significant", "attack", "marks", "seeds")
    if measurement is None or not measurement.n:
        return dict.fromkeys(names)
    from harness.statistics import wilson_interval

    low, high = wilson_interval(measurement.successes, measurement.n)
    p = published_p(measurement, published)
    planned = measurement.n if measurement.planned is None else measurement.planned
    marks = ", ".join((*measurement.marks, *measurement.flags))
    compared = (measurement.value - published, p, p < LEVEL)
    counted = (measurement.value, measurement.successes, measurement.n, planned, low, high)
    return dict(zip(names, (*counted, *compared, measurement.attack, marks, len(measurement.values)), strict=True))


def published_p(measurement: Measurement, published: float) -> float:
    """Return the two-sided p-value of the exact binomial test that the measured count is from the published proportion."""
    from scipy.stats import binomtest

    return float(binomtest(measurement.successes, measurement.n, published).pvalue)
