"""How far the reproduction of every table is."""

from __future__ import annotations

from dataclasses import dataclass

from harness.reproduction.grid import fill
from harness.reproduction.measurements import SCALES, Measurements
from harness.reproduction.specification import PaperTable, get, names


@dataclass(frozen=True)
class TableStatus:
    """Progress of one table.

    Attributes
    ----------
    name, title : str
        Of the table.
    cells : int
        Number of cells with a published value; 0 for a computed table.
    measured : dict of str to int
        Number of cells that are measured at each scale.
    is_computed : bool
        Whether the table has no measured cells.
    """

    name: str
    title: str
    cells: int
    measured: dict[str, int]
    is_computed: bool

    def missing(self, scale: str) -> int:
        """Return the number of cells that are not measured at a scale."""
        return self.cells - self.measured[scale]


def status(measurements: Measurements) -> list[TableStatus]:
    """Return the progress of all tables, in their order."""
    return [_status(get(name), measurements) for name in names()]


def _status(table: PaperTable, measurements: Measurements) -> TableStatus:
    measured = fill(table, measurements).measured
    counts = {scale: len(measured[scale]) for scale in SCALES}
    return TableStatus(table.name, table.title, len(table.grid), counts, table.computed is not None)
