"""Leaderboards: the rows of a summary as cells that a page can sort, filter and draw; one board per suite and threat model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from harness.reporting import names, tables
from harness.reporting.cells import PageCell, flag_notes, page
from harness.reporting.frames import CELLS, attacks_of, groups_of, summary
from harness.reporting.tables import Column, TableSpec
from model_zoo.schema import Record

SPEC = TableSpec(
    name="page",
    title="Robust accuracy in per cent",
    note="Worst case: the share of images that none of the attacks broke; errors on clean images count as broken. In brackets, the 95 % "
    "Wilson interval. Bytes: the packed checkpoint file, as measured on disk.",
    sort=["worst", "clean"],
    columns=[
        Column(heading="model", field="model", format="text"),
        Column(heading="worst case", field="worst", format="accuracy"),
        Column(heading="bytes", field="bytes", format="integer"),
        Column(heading="clean", field="clean", format="accuracy"),
        Column(heading="attacks", field="*", format="accuracy"),
        Column(heading="images", field="worst_n", format="integer"),
        Column(heading="sparsity, %", field="sparsity", format="percent"),
        Column(heading="weight bits", field="weight_bits", format="integer"),
        Column(heading="activation bits", field="activation_bits", format="integer"),
        Column(heading="verdict", field="verdict", format="text"),
    ],
)
# Fields of a record's taxonomy of pruning, and their displayed names.
TAXONOMY = {"when": "Pruned", "scored": "Kept by", "structured": "Whole channels", "scope": "Competition"}


@dataclass(frozen=True)
class Results:
    """The results of one suite in a store; the frames are the parameters of `harness.reporting.frames.summary`."""

    suite: str
    outcomes: pd.DataFrame
    models: pd.DataFrame
    expected: pd.DataFrame | None = None
    verdicts: pd.DataFrame | None = None


@dataclass(frozen=True)
class Row:
    """One model on a board. `data` are the values for filters and for the picture, `units` the units behind the number of each attack.

    `counts` are the numbers of images behind clean accuracy, each attack and the worst case. `notes` explain the marks of the cells.
    """

    model: str
    short: str
    warning: str
    cells: dict[str, PageCell]
    data: dict[str, str]
    units: dict[str, list[str]]
    counts: dict[str, int]
    notes: list[str]


@dataclass(frozen=True)
class Board:
    """A table of models under one threat model and one suite. `headings` are the headings of the cells, by field."""

    suite: str
    dataset: str
    norm: str
    radius: str
    caption: str
    images: str
    attacks: list[str]
    headings: dict[str, str]
    rows: list[Row]
    notes: list[str]

    @property
    def threat(self) -> str:
        """Norm and radius."""
        return f"{self.norm} {self.radius}"

    @property
    def slug(self) -> str:
        """The board's name in addresses."""
        return slug(f"{self.suite}-{self.dataset}-{self.norm}-{self.radius}")


def slug(text: str) -> str:
    """Return a text as part of a file name or address: lower-case letters, digits, dashes and dots."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")


def boards(results: Sequence[Results], records: Mapping[str, Record]) -> tuple[list[Board], dict[str, pd.DataFrame]]:
    """Return all boards, those of the suite with the most attacks first, and the summaries that they show, by suite."""
    all_boards: list[Board] = []
    frames: dict[str, pd.DataFrame] = {}
    for result in results:
        frame = frames[result.suite] = summary(result.outcomes, result.models, result.expected, result.verdicts)
        for (key, part), table in zip(groups_of(frame), tables.render(SPEC, frame), strict=True):
            all_boards.append(_board(result, key, part, table, records))
    most_attacks = {
        result.suite: max((len(board.attacks) for board in all_boards if board.suite == result.suite), default=0) for result in results
    }
    # The sort is stable: within a data set, boards stay in the summary's order of radii.
    return sorted(all_boards, key=lambda board: (-most_attacks[board.suite], board.suite, -len(board.attacks), board.dataset)), frames


def _board(result: Results, key: tuple[str, str, str], part: pd.DataFrame, table: tables.Table, records: Mapping[str, Record]) -> Board:
    attacks = attacks_of(part)
    fields = table.fields
    outcomes = result.outcomes[(result.outcomes[["dataset", "norm", "radius"]] == list(key)).all(axis=1)]
    units: dict[str, dict[str, list[str]]] = {}
    for (model, attack), cell in outcomes.groupby(["model", "attack"], sort=True):
        units.setdefault(str(model), {})[str(attack)] = list(dict.fromkeys(cell["unit"]))
    by_model = {str(row["model"]): row for _, row in part.iterrows()}
    most_images = int(part["worst_n"].max())
    rows = []
    for line in table.rows:
        by_field = dict(zip(fields, line, strict=True))
        model = by_field["model"].value
        row = by_model[model]
        cells = {field: page(cell) for field, cell in by_field.items()}
        data = _data(row, cells, records.get(model)) | {"fit": str(int(names.may_lead(row, most_images)))}
        counts = {name: cell.n for name, cell in row[CELLS].items()}
        short, warning = names.short(model, part["model"]), names.warning(row, part)
        rows.append(Row(model, short, warning, cells, data, units.get(model, {}), counts, flag_notes(line)))
    headings = dict(zip(fields, table.headings, strict=True))
    return Board(result.suite, *key, table.caption, names.images(part), attacks, headings, rows, table.notes)


def _data(row: pd.Series, cells: Mapping[str, PageCell], record: Record | None) -> dict[str, str]:
    ends = cells["worst"].ends
    values = {
        "model": str(row["model"]),
        "family": str(row["family"]) if isinstance(row.get("family"), str) else "",
        "bits": cells["weight_bits"].sort,
        "bytes": cells["bytes"].sort,
        "verdict": str(row["verdict"]) if isinstance(row.get("verdict"), str) else "",
        **dict(zip(("low", "worst", "high"), [f"{value:.4f}" for value in ends] if ends else ["", "", ""], strict=True)),
    }
    pruning = record.pruning if record else None
    return values | {name: taxonomy_value(getattr(pruning, name)) if pruning else "" for name in TAXONOMY}


def taxonomy_value(value: str | bool) -> str:
    """Return the value of a field of a record's taxonomy as a word."""
    return value if isinstance(value, str) else ("yes" if value else "no")
