"""Grids laid out as tables of the paper: below each published row, what was measured at paper scale and at small scale."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from harness.reporting.cells import Cell, accuracy_cell, flag_notes, terminal
from harness.reporting.tables import Table
from harness.reproduction.grid import LEVEL, Grid, published_p
from harness.reproduction.measurements import PAPER, SMALL, Measurement
from harness.reproduction.specification import Axis, TableCell
from harness.reproduction.trends import agreement, published_verdicts, verdicts

# Marks after a number: the difference to the published one is significant; the mask leaves a layer or a class without weights.
SIGNIFICANT, EMPTY_MARK = "∗", "∅"
DIGITS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
PUBLISHED, DIFFERENCE = "published", "difference"
SCALE_NAMES = {PAPER: "paper scale", SMALL: "small scale"}
NARROW_NAMES = {"paper scale": "paper", "small scale": "small", DIFFERENCE: "diff."}
# A heading wider than this is broken after its hyphens in a narrow table.
WIDEST = 9

Line = tuple[str, list[Cell]]


def lay_out(grid: Grid, narrow: bool = False) -> Table:
    """Return the table of a grid.

    Every row of the paper has a row of published values, followed by rows of the numbers measured at each scale at which any cell of the
    table is measured; a cell that is not measured has a dash.

    Parameters
    ----------
    narrow : bool
        Write the labels of a row into one column, for a terminal.
    """
    rows = [row for row in grid.table.rows if any(cell.row is row for cell in grid.cells)]
    columns = [column for column in grid.table.columns if any(cell.column is column for cell in grid.cells)]
    scales = [scale for scale in SCALE_NAMES if grid.measured[scale]]
    footnotes = _footnotes(grid)
    lines_by_row = [_lines(grid, row, columns, scales, footnotes) for row in rows]
    lines_by_row = _with_best(grid, lines_by_row)
    laid_out: list[list[Cell]] = []
    starts = set()
    for row, lines in zip(rows, lines_by_row, strict=True):
        starts.add(len(laid_out))
        laid_out += [[*_labels(row, name, narrow, bool(scales)), *cells] for name, cells in lines]
    stub = _stub_headings(grid, narrow, bool(scales))
    headings = [*stub, *(_heading(column, narrow) for column in columns)]
    numeric = [False] * len(stub) + [True] * len(columns)
    notes = _notes(grid, scales, footnotes, [cell for line in laid_out for cell in line])
    return Table(caption(grid), headings, laid_out, numeric, notes, frozenset(starts - {0}) if scales else frozenset())


def stacked(table: Table, width: int) -> list[Table]:
    """Return the table in parts of at most `width` characters, one below the other, each with the first column; notes below the last."""
    widths = [max(_width(cell) for cell in column) for column in zip(*table.rows, strict=True)]
    widths = [max(cell_width, *map(len, heading.split(" "))) + 1 for cell_width, heading in zip(widths, table.headings, strict=True)]
    parts: list[list[int]] = [[]]
    for column in range(1, len(widths)):
        if parts[-1] and widths[0] + sum(widths[item] for item in parts[-1]) + widths[column] - 1 > width:
            parts.append([])
        parts[-1].append(column)
    return [
        replace(
            table,
            caption=table.caption if not number else "",
            headings=[table.headings[item] for item in (0, *part)],
            rows=[[row[item] for item in (0, *part)] for row in table.rows],
            numeric=[table.numeric[item] for item in (0, *part)],
            notes=table.notes if number == len(parts) - 1 else [],
        )
        for number, part in enumerate(parts)
    ]


def _width(cell: Cell) -> int:
    """Return the number of characters of a cell's widest line in a terminal."""
    return max(line.cell_len for line in terminal(cell).split("\n", allow_blank=True))


def caption(grid: Grid) -> str:
    """Return the title of a grid with the numbers of its cells: "Table 9: ... (108 published; small scale: CIFAR-10 27 of 54, ...)"."""
    counts = [f"{SCALE_NAMES[scale]}: {counted(grid, scale)}" for scale in SCALE_NAMES]
    return f"Table {grid.table.number}: {grid.table.title} ({'; '.join([f'published: {len(grid.cells)}', *counts])})"


def counted(grid: Grid, scale: str) -> str:
    """Return how many cells are measured at a scale: "27 of 54"; for every group of columns if any cell is."""
    counts = grid.counts(scale)
    if len(counts) > 1 and any(done for _, done, _ in counts):
        return ", ".join(f"{group} {done} of {total}" for group, done, total in counts)
    return f"{sum(done for _, done, _ in counts)} of {sum(total for _, _, total in counts)}"


def _lines(grid: Grid, row: Axis, columns: Sequence[Axis], scales: Sequence[str], footnotes: dict[str, str]) -> list[Line]:
    cells = [next((cell for cell in grid.cells if cell.row is row and cell.column is column), None) for column in columns]
    lines: list[Line] = [(PUBLISHED, [_published(cell, footnotes) for cell in cells])]
    for scale in scales:
        measured = [None if cell is None else grid.measurement(scale, row.name, cell.column.name) for cell in cells]
        lines.append((SCALE_NAMES[scale], [_measured(cell, item) for cell, item in zip(cells, measured, strict=True)]))
        if scale == PAPER:
            lines.append((DIFFERENCE, [_difference(cell, item) for cell, item in zip(cells, measured, strict=True)]))
    return lines


def _published(cell: TableCell | None, footnotes: dict[str, str]) -> Cell:
    if cell is None:
        return Cell("published")
    return Cell("published", cell.published.value, suffix=footnotes.get(cell.published.note, ""))


def _measured(cell: TableCell | None, measurement: Measurement | None) -> Cell:
    """Return the cell of a measurement, a dash if there is none, and an empty cell if the paper has no number."""
    if cell is None:
        return Cell("published")
    if measurement is None:
        return Cell("text")
    made = accuracy_cell(measurement.successes, measurement.n, measurement.planned, measurement.flags)
    return replace(made, suffix=EMPTY_MARK * measurement.is_empty, is_small=measurement.scale != PAPER)


def _difference(cell: TableCell | None, measurement: Measurement | None) -> Cell:
    if cell is None or measurement is None or not measurement.n:
        return Cell("difference")
    is_significant = published_p(measurement, cell.published.value) < LEVEL
    return Cell("difference", measurement.value - cell.published.value, suffix=SIGNIFICANT * is_significant)


def _with_best(grid: Grid, lines_by_row: list[list[Line]]) -> list[list[Line]]:
    """Return the lines with the best published and measured numbers of every column or row marked, as the table specifies."""
    if grid.table.best is None:
        return lines_by_row

    def group(row: int, name: str, column: int) -> tuple[str, int]:
        return name, column if grid.table.best == "column" else row

    places = [
        (group(row, name, column), cell)
        for row, lines in enumerate(lines_by_row)
        for name, cells in lines
        for column, cell in enumerate(cells)
        if _is_ranked(cell)
    ]
    best: dict[tuple[str, int], float] = {}
    for key, cell in places:
        best[key] = max(best.get(key, 0.0), cell.value)
    return [
        [
            (name, [replace(cell, is_best=_is_ranked(cell) and cell.value == best[group(row, name, at)]) for at, cell in enumerate(cells)])
            for name, cells in lines
        ]
        for row, lines in enumerate(lines_by_row)
    ]


def _is_ranked(cell: Cell) -> bool:
    return cell.kind in ("published", "accuracy") and cell.value is not None and EMPTY_MARK not in cell.suffix


def _footnotes(grid: Grid) -> dict[str, str]:
    """Return the mark of each note of a published value, in reading order."""
    notes = dict.fromkeys(cell.published.note for cell in grid.cells if cell.published.note)
    return {note: str(number).translate(DIGITS) for number, note in enumerate(notes, 1)}


def _labels(row: Axis, line: str, narrow: bool, has_scales: bool) -> list[Cell]:
    is_first = line == PUBLISHED
    if narrow:
        return [Cell("text", row.name if is_first else f"  {NARROW_NAMES[line]}")]
    labels = [Cell("text", label if is_first else "") for label in row.labels]
    return [*labels, Cell("text", line)] if has_scales else labels


def _stub_headings(grid: Grid, narrow: bool, has_scales: bool) -> list[str]:
    if narrow:
        return [" ".join(grid.table.stub[:1])]
    return [*grid.table.stub, "number"] if has_scales else list(grid.table.stub)


def _heading(column: Axis, narrow: bool) -> str:
    """Return a column's heading; a space between its labels, at which a terminal breaks it, and no other."""
    labels = [re.sub(r"-\b", "- ", label) if narrow and len(label) > WIDEST else label.replace(" ", "\u00a0") for label in column.labels]
    return " ".join(labels)


def _notes(grid: Grid, scales: Sequence[str], footnotes: dict[str, str], cells: Sequence[Cell]) -> list[str]:
    table = grid.table
    notes = [table.caption]
    if table.best is not None:
        notes.append(f"Bold: the best of each {table.best}.")
    notes += [_legend(grid, scale) for scale in scales]
    if any(EMPTY_MARK in cell.suffix for cell in cells):
        notes.append(f"{EMPTY_MARK}: the mask leaves a layer or a class without weights; left out of every test.")
    notes += flag_notes(cells)
    notes += [f"{mark} {note}" for note, mark in footnotes.items()]
    notes += table.notes
    notes += [f"Published numbers: {verdict}" for verdict in published_verdicts(table)]
    for scale in scales:
        agreed = agreement(grid, scale)
        name = SCALE_NAMES[scale].capitalize()
        notes += [f"{name}: {sentence}" for sentence in ([agreed] if agreed else [])]
        notes += [f"{name}: {verdict}" for verdict in verdicts(grid, scale)]
    return [*notes, f"Source: {table.source}, {_pages(grid)}."]


def _legend(grid: Grid, scale: str) -> str:
    measured = list(grid.measured[scale].values())
    attacks = _listed(sorted({item.attack for item in measured if item.attack}))
    counts = _listed([f"{n:,}" for n in sorted({item.n for item in measured})])
    conditions = f"{attacks or 'no attack'}, n = {counts}, with 95 % Wilson intervals"
    if any(len(item.values) > 1 for item in measured):
        conditions += "; of several seeds, the first is shown, and claims are tested with all"
    if scale == PAPER:
        return (
            f"Paper scale: models trained with the paper's settings ({conditions}); difference: measured less published, in points, "
            f"{SIGNIFICANT} if significant (two-sided exact binomial test, p < {LEVEL:g})."
        )
    return f"Small scale, in parentheses: small models that a CPU can train ({conditions})."


def _pages(grid: Grid) -> str:
    return ", ".join(dict.fromkeys(cell.published.page for cell in grid.cells if cell.published.page))


def _listed(names: Iterable[str]) -> str:
    return " or ".join(names)
