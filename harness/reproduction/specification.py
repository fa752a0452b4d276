"""Tables of a paper: one TOML file each, with rows, columns, published values and the `Settings` of the model behind every cell."""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from harness.plugins import PAPER_TABLES
from harness.reproduction.claims import Claim
from harness.reproduction.settings import Settings
from model_zoo.documents import first_fault, read_toml, validated
from model_zoo.errors import DamagedFileError, UnknownNameError

# The paper whose tables may be named without it: "table-1" is "liu2022-1".
DEFAULT_PAPER = "liu2022"
ALIAS = "table-"
LISTING = "harness reproduce"
PUBLISHED_COLUMNS = ["table", "row", "column", "measure", "percent", "page", "note"]

# A number as papers print it.
_NUMBER = re.compile(r"[0-9]{1,3}(\.[0-9]{1,10})?")

Measure = Literal["autoattack", "clean"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Axis(_Strict):
    """One row or column: its name, unique within the axis, its labels as the table prints them, and the settings that it adds."""

    name: str
    labels: tuple[str, ...]
    settings: dict[str, Any] = {}


class Published(_Strict):
    """A published value.

    Attributes
    ----------
    percent : str
        The number as it is printed; never corrected.
    page : str
        Where it is printed.
    note : str
        What a reader of the number must know, such as another value elsewhere in the paper; printed as a footnote.
    """

    percent: str
    page: str = ""
    note: str = ""

    @field_validator("percent")
    @classmethod
    def _is_percentage(cls, percent: str) -> str:
        if not _NUMBER.fullmatch(percent) or float(percent) > 100:
            raise ValueError(f"{percent!r} is not a percentage")
        return percent

    @property
    def value(self) -> float:
        """The number as a fraction."""
        return float(f"{self.percent}e-2")


class Cells(_Strict):
    """Exceptions for the cells at the crossings of some rows and columns: further settings, or a published value in this file."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    settings: dict[str, Any] = {}
    published: Published | None = None


@dataclass(frozen=True)
class TableCell:
    """A cell with a published value: its row, its column, the value, and the settings of the model behind it."""

    row: Axis
    column: Axis
    published: Published
    settings: Settings


class PaperTable(_Strict):
    """Specification of one table of a paper.

    Attributes
    ----------
    name : str
        Name of the file: "liu2022-1".
    paper, number : str
        The paper's key and the table's number in it.
    title, caption : str
        Our own words.
    source : str
        Where the paper's text is from.
    computed : str, optional
        "operations" or "widths": the table has no measured cells, `harness.reproduction.computed` makes it.
    published : str, optional
        CSV file with `PUBLISHED_COLUMNS`, relative to the table's file; only rows of this table's number are read.
    measure : str
        "autoattack" (robust accuracy) or "clean".
    best : str, optional
        Mark the largest number of each "column" or "row"; None for no mark.
    stub : sequence of str
        Headings of the columns that contain the rows' labels.
    settings : mapping
        Fields of `Settings` that all cells share; those of the row, of the column and of `cells` are added in this order.
    rows, columns, cells
        What the table consists of.
    claims : sequence
        The paper's claims about this table, see `harness.reproduction.claims`.
    notes : sequence of str
        Lines below the table.
    """

    name: str
    paper: str
    number: str
    title: str
    caption: str
    source: str
    computed: Literal["operations", "widths"] | None = None
    published: str | None = None
    measure: Measure = "autoattack"
    best: Literal["column", "row"] | None = None
    stub: tuple[str, ...] = ()
    settings: dict[str, Any] = {}
    rows: tuple[Axis, ...] = ()
    columns: tuple[Axis, ...] = ()
    cells: tuple[Cells, ...] = ()
    claims: tuple[Claim, ...] = ()
    notes: tuple[str, ...] = ()
    values: dict[tuple[str, str], Published] = {}

    @cached_property
    def grid(self) -> Mapping[tuple[str, str], TableCell]:
        """Every cell with a published value, by the names of its row and column, row by row."""
        by_place = {}
        for row in self.rows:
            for column in self.columns:
                value = self.values.get((row.name, column.name))
                if value is not None:
                    by_place[row.name, column.name] = TableCell(row, column, value, self._settings_of(row, column))
        return by_place

    def choose(self, rows: Sequence[str] = (), columns: Sequence[str] = ()) -> list[TableCell]:
        """Return the cells in these rows and columns, all by default.

        A row or column is chosen by its name, or by one of its labels ("CIFAR-10" means all columns with this label).

        Raises
        ------
        UnknownNameError
            If no row or column has one of the names; the message has the near miss.
        """
        row_names = self._names("row", self.rows, rows)
        column_names = self._names("column", self.columns, columns)
        return [cell for (row, column), cell in self.grid.items() if row in row_names and column in column_names]

    def trainings(self, rows: Sequence[str] = (), columns: Sequence[str] = ()) -> list[Settings]:
        """Return the settings of the models behind the chosen cells, each once, then those of the further seeds that claims need."""
        cells = self.choose(rows, columns)
        seeds: dict[tuple[str, str], int] = {}
        for claim in self.claims:
            for place, count in claim.needed(self).items():
                seeds[place] = max(count, seeds.get(place, 1))
        further = [
            cell.settings.model_copy(update={"seed": cell.settings.seed + step})
            for cell in cells
            for step in range(1, seeds.get((cell.row.name, cell.column.name), 1))
        ]
        return list(dict.fromkeys([*(cell.settings for cell in cells), *further]))

    def _names(self, kind: str, axis: Sequence[Axis], selected: Sequence[str]) -> set[str]:
        names = {name: {item.name for item in axis if name in (item.name, *item.labels)} for name in selected}
        for name, matches in names.items():
            if not matches:
                known = {label for item in axis for label in (item.name, *item.labels) if label}
                raise UnknownNameError(f"{kind} of {self.name}", name, known, f"{LISTING} {self.name}")
        return set().union(*names.values()) if selected else {item.name for item in axis}

    def _settings_of(self, row: Axis, column: Axis) -> Settings:
        fields = {**self.settings, **row.settings, **column.settings}
        for exception in self.cells:
            if row.name in exception.rows and column.name in exception.columns:
                fields |= exception.settings
        return Settings.model_validate(fields)


def names() -> list[str]:
    """Return the names of all tables, those of one paper in the order of their numbers."""
    return sorted(PAPER_TABLES.names(), key=_order)


def resolve(name: str) -> str | None:
    """Return the name under which a table is registered, also for an alias such as "table-1"; None if there is no such table."""
    resolved = f"{DEFAULT_PAPER}-{name.removeprefix(ALIAS)}" if name.startswith(ALIAS) else name
    return resolved if resolved in PAPER_TABLES.names() else None


def get(name: str) -> PaperTable:
    """Return the table called `name`, such as "liu2022-1" or "table-1", or that of a TOML file.

    Raises
    ------
    UnknownNameError
        If there is no such table; the message has the near miss.
    DamagedFileError
        If its file is no specification of a table.
    """
    resolved = name if name.endswith(".toml") else resolve(name)
    if resolved is None:
        prefix = f"{DEFAULT_PAPER}-"
        aliases = [ALIAS + item.removeprefix(prefix) for item in names() if item.startswith(prefix)]
        raise UnknownNameError("table", name, [*names(), *aliases], LISTING)
    return PAPER_TABLES.get(resolved)


def read(path: Path) -> PaperTable:
    """Read a table's specification and its published values; every cell with a value has valid settings.

    Raises
    ------
    DamagedFileError
        If the file is not a specification, a name in it or in the published values is no row or column, or settings are invalid.
    """
    kind = "a table specification"
    table = validated(PaperTable, {"name": path.stem, **read_toml(path, kind)}, path, kind)
    _check_names(path, table)
    values = dict(_published(path, table))
    table = table.model_copy(update={"values": values})
    for place in values:
        row, column = (
            next(item for item in axis if item.name == name) for axis, name in zip((table.rows, table.columns), place, strict=True)
        )
        try:
            table._settings_of(row, column)
        except ValidationError as error:
            raise DamagedFileError(path, f"settings of a model for row {row.name!r}, column {column.name!r}", first_fault(error)) from None
    return table


def _published(path: Path, table: PaperTable) -> Iterator[tuple[tuple[str, str], Published]]:
    places = set()
    for place, value, file in (*_in_file(path, table), *_in_csv(path, table)):
        for kind, name, axis in (("row", place[0], table.rows), ("column", place[1], table.columns)):
            _check_name(file, f"a {kind} of {table.name}", name, [item.name for item in axis])
        if place in places:
            raise DamagedFileError(file, f"one value per cell of {table.name}", f"several for row {place[0]!r}, column {place[1]!r}")
        places.add(place)
        yield place, value


def _in_file(path: Path, table: PaperTable) -> Iterator[tuple[tuple[str, str], Published, Path]]:
    for item in table.cells:
        if item.published is not None:
            for place in ((row, column) for row in item.rows for column in item.columns):
                yield place, item.published, path


def _in_csv(path: Path, table: PaperTable) -> Iterator[tuple[tuple[str, str], Published, Path]]:
    if table.published is None:
        return
    try:
        file = (path.parent / table.published).resolve()
        content = file.read_bytes()
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise DamagedFileError(path, f"published values in {table.published}", reason) from None
    try:
        reader = csv.DictReader(io.StringIO(content.decode(), newline=""), strict=True)
        rows, header = list(reader), list(reader.fieldnames or ())
    except (ValueError, csv.Error) as error:
        raise DamagedFileError(file, "published values as CSV in UTF-8", str(error)) from None
    if sorted(header) != sorted(PUBLISHED_COLUMNS):
        raise DamagedFileError(file, f"the columns {', '.join(PUBLISHED_COLUMNS)}", ", ".join(header) or "none")
    for row in rows:
        if None in row or None in row.values():
            raise DamagedFileError(file, f"{len(header)} values in every row", f"another number in the row of {row['row']!r}")
        if row["table"] != table.number:
            continue
        if row["measure"] != table.measure:
            raise DamagedFileError(file, f"measure {table.measure!r} in table {table.number}", repr(row["measure"]))
        try:
            value = Published(percent=row["percent"], page=row["page"], note=row["note"])
        except ValidationError as error:
            raise DamagedFileError(file, f"a value in row {row['row']!r}, column {row['column']!r}", first_fault(error)) from None
        yield (row["row"], row["column"]), value, file


def _check_names(path: Path, table: PaperTable) -> None:
    for kind, axis in (("row", table.rows), ("column", table.columns)):
        axis_names = [item.name for item in axis]
        repeated = next((name for name in axis_names if axis_names.count(name) > 1), None)
        if repeated is not None:
            raise DamagedFileError(path, f"one {kind} per name", f"several called {repeated!r}")
        mentioned = [name for item in table.cells for name in (item.rows if kind == "row" else item.columns)]
        mentioned += [name for claim in table.claims for name in (claim.row_names() if kind == "row" else claim.column_names())]
        for name in mentioned:
            _check_name(path, f"a {kind}", name, axis_names)
    for row in table.rows:
        if len(row.labels) != len(table.stub):
            raise DamagedFileError(path, f"{len(table.stub)} labels in row {row.name!r}", f"{len(row.labels)}")


def _check_name(path: Path, expected: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
        raise DamagedFileError(path, expected, repr(name) + (f" (did you mean {matches[0]!r}?)" if matches else ""))


def _order(name: str) -> tuple[str, int, str]:
    paper, _, number = name.partition("-")
    return (paper, int(number), "") if number.isdigit() else (paper, 1_000_000, number)
