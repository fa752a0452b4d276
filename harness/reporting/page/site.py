"""Writing the page into a folder: HTML from boards and cards by Jinja templates, pictures, and their data; bytes are reproducible."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.reporting import curves, renderers
from harness.reporting.cells import page as page_cell
from harness.reporting.page import cards
from harness.reporting.page.boards import TAXONOMY, Board, Results, Row, boards, slug
from harness.reporting.page.pictures import Gallery, Picture
from harness.reporting.style import family_style
from harness.reporting.tables import Table
from harness.runner.diagnoses import Diagnosis, diagnoses, of_model
from harness.runner.results import find
from harness.runner.store import Store, Stored
from harness.selftest.report import FILE as SELFTEST
from harness.selftest.report import HEADINGS
from model_zoo.errors import DamagedFileError, UserError
from model_zoo.files import place
from model_zoo.references import RecordReference, parse_recorded
from model_zoo.schema import Record

if TYPE_CHECKING:
    from jinja2 import Environment

MAIN = "index.html"
# Lists all files of a page, so that the next page written into the folder can delete those it does not replace.
LISTING = "files.txt"
# Plotly's names of the Matplotlib markers of the families.
SYMBOLS = {"o": "circle", "s": "square", "D": "diamond", "^": "triangle-up", "v": "triangle-down", "P": "cross", "X": "x"}


def build(
    store: Store,
    stored: Sequence[Stored | DamagedFileError],
    results: Sequence[Results],
    references: Mapping[str, str],
    folder: Path,
    data_dir: Path | None = None,
    paper: Sequence[PaperTable] = (),
) -> list[Path]:
    """Write the page into `folder` and return the paths of its files; the first path is the main page.

    Parameters
    ----------
    store : Store
        The store with diagnostics, the self-test and broken images.
    stored : sequence
        The result of `store.read_all`.
    results : sequence of Results
        The outcomes of each suite that has any.
    references : mapping
        Ids of the models that get a page, each with the reference that finds the model: an id or the path of a record.
    data_dir : Path, optional
        The folder of images that do not ship; pictures of images that are not there are left out.
    paper : sequence of PaperTable
        Tables of the paper.

    Raises
    ------
    UserError
        If Jinja2 or Plotly, the extra `page`, is not installed.
    """
    site = _Site(folder, _environment(), _plotly())
    models = {name: parse_recorded(reference) for name, reference in sorted(references.items())}
    records = {name: model.describe() for name, model in models.items()}
    leaderboards, frames = boards(results, records)
    for name in sorted(frames):
        site.write(f"data/summary-{name}.csv", renderers.csv(frames[name]))
    data = _SiteData(store, stored, results, Gallery(store, data_dir))
    stored_diagnoses = diagnoses(store)
    for name, model in models.items():
        _write_model(site, name, model, leaderboards, data, stored_diagnoses)
    for unit in sorted(data.linked):
        site.write(f"data/units/{unit}.json", store.manifest(unit).to_bytes())
    _write_index(site, leaderboards, records, data)
    site.page("paper.html", "paper.html", tables=[_on_page(table) for table in paper])
    site.page("selftest.html", "selftest.html", selftest=_selftest(store), headings=HEADINGS)
    site.page("notes.html", "notes.html", **data.notes())
    for path in sorted(Path(str(files(__package__) / "assets")).iterdir()):
        site.write(f"assets/{path.name}", path.read_bytes())
    site.write("assets/plotly.min.js", site.plotly)
    site.finish()
    return sorted(site.written, key=lambda path: (path != folder / MAIN, path))


@dataclass(frozen=True)
class PaperTable:
    """A table of a paper for the page: its name, number and title, and its parts."""

    name: str
    number: str
    title: str
    parts: Sequence[Table]


def _on_page(table: PaperTable) -> dict[str, Any]:
    """Return the variables of the template of the paper's tables."""
    parts = [
        {
            **{name: getattr(part, name) for name in ("caption", "headings", "numeric", "notes", "starts")},
            "rows": [[vars(page_cell(cell)) | {"is_best": cell.is_best, "is_small": cell.is_small} for cell in row] for row in part.rows],
        }
        for part in table.parts
    ]
    return {"name": table.name, "number": table.number, "title": table.title, "parts": parts}


@dataclass
class _Site:
    """A folder that is being written."""

    folder: Path
    environment: Environment
    plotly: str
    written: list[Path] = field(default_factory=list)

    def write(self, name: str, content: str | bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        place(path, content if isinstance(content, bytes) else content.encode())
        self.written.append(path)

    def page(self, name: str, template: str, **context: Any) -> None:
        self.write(name, self.environment.get_template(template).render(root="../" * name.count("/"), **context))

    def finish(self) -> None:
        """Delete the files of an earlier page that this page lacks; files that no page wrote stay."""
        listing, root = self.folder / LISTING, self.folder.resolve()
        written = {path.relative_to(self.folder).as_posix() for path in self.written} | {LISTING}
        for name in set(listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else ()) - written:
            path = (self.folder / name).resolve()
            if path.is_relative_to(root) and path.is_file():
                path.unlink()
        self.write(LISTING, "".join(f"{name}\n" for name in sorted(written)))


@dataclass
class _SiteData:
    """Data behind the numbers of all boards: outcomes by model, pictures, and outcomes that were taken back."""

    store: Store
    stored: Sequence[Stored | DamagedFileError]
    results: Sequence[Results]
    gallery: Gallery
    linked: set[str] = field(default_factory=set)

    @cached_property
    def outcomes(self) -> pd.DataFrame:
        """Every outcome that a board counts, once."""
        frame = pd.concat([result.outcomes for result in self.results]) if self.results else pd.DataFrame()
        return frame if frame.empty else frame.drop_duplicates(["unit", "image"]).sort_values(["unit", "image"], ignore_index=True)

    def of(self, model: str) -> pd.DataFrame:
        return self.outcomes if self.outcomes.empty else self.outcomes[self.outcomes["model"] == model]

    def notes(self) -> dict[str, list[str]]:
        """Return the outcomes that do not count, by reason. Damaged files are named without their folder."""
        selected = find(self.stored)
        intact = [item for item in self.stored if isinstance(item, Stored)]
        faulty = [item.manifest for item in intact if item.manifest.at_fault]
        return {
            "invalid": sorted(selected.invalid),
            "faulty": sorted(f"{manifest.labels.model} · {manifest.labels.attack} · {manifest.labels.dataset}" for manifest in faulty),
            "damaged": [f"{error.path.name}: expected {error.expected}, found {error.actual}" for error in selected.damaged],
        }


def _write_index(site: _Site, leaderboards: list[Board], records: Mapping[str, Record], data: _SiteData) -> None:
    rows = [row for board in leaderboards for row in board.rows]
    outcomes = data.outcomes
    site.page(
        MAIN,
        "index.html",
        boards=leaderboards,
        families={family: _family_look(family) for family in sorted({row.data["family"] for row in rows})},
        pages=records,
        unmeasured={name: record for name, record in records.items() if name not in {row.model for row in rows}},
        bits=sorted({row.data["bits"] for row in rows if row.data["bits"]}, key=int),
        taxonomy={name: (TAXONOMY[name], values) for name in TAXONOMY if (values := sorted({row.data[name] for row in rows} - {""}))},
        suites=[result.suite for result in data.results],
        models=len({row.model for row in rows}),
        outcomes=len(outcomes),
        images=0 if outcomes.empty else len(outcomes[["dataset", "image"]].drop_duplicates()),
    )


def _write_model(
    site: _Site, name: str, reference: RecordReference, leaderboards: list[Board], data: _SiteData, stored_diagnoses: Sequence[Diagnosis]
) -> None:
    record = reference.describe()
    outcomes = data.of(name)
    board_rows = [(board, row) for board in leaderboards for row in board.rows if row.model == name]
    data.linked.update(unit for _, row in board_rows for units in row.units.values() for unit in units)
    site.write(f"data/records/{name}.toml", reference.record_path.read_bytes())
    if len(outcomes):
        site.write(f"data/outcomes/{name}.csv", outcomes.to_csv(index=False, lineterminator="\n"))
    curve = cards.curve(reference)
    if curve is not None:
        site.write(f"data/curves/{name}.csv", curve.csv)
    site.page(
        f"models/{name}.html",
        "model.html",
        id=name,
        record=record,
        shown=board_rows,
        facts=cards.facts(record),
        recipe=cards.recipe(record),
        footprint=cards.footprint(reference),
        diagnostics=[cards.diagnostic(diagnosis) for diagnosis in of_model(stored_diagnoses, record)],
        curve=curve,
        accuracies=curves.ACCURACIES,
        pictures=_write_pictures(site, name, board_rows, outcomes, data.gallery),
        has_outcomes=len(outcomes) > 0,
        families={record.family: _family_look(record.family)},
    )


def _family_look(family: str) -> dict[str, str]:
    """Return colour, Plotly symbol and name of a family; "" is the family of models without a record."""
    colour, marker, name = family_style(family or None)
    return {"colour": colour, "symbol": SYMBOLS[marker], "name": name}


def _write_pictures(
    site: _Site, model: str, board_rows: Sequence[tuple[Board, Row]], outcomes: pd.DataFrame, gallery: Gallery
) -> list[tuple[Board, str, list[tuple[str, Picture]]]]:
    """Write the pictures of each board and attack, and return them with their paths; an attack that several suites share comes once."""
    galleries, seen = [], set()
    for board, row in board_rows:
        for attack, units in row.units.items():
            if tuple(units) in seen:
                continue
            seen.add(tuple(units))
            written = []
            for picture in gallery.pictures(board.dataset, outcomes, units):
                file = f"pictures/{model}/{slug(f'{board.slug}-{attack}')}-{picture.image}.png"
                site.write(file, picture.png)
                written.append((file, picture))
            if written:
                galleries.append((board, attack, written))
    return galleries


def _selftest(store: Store) -> dict[str, Any] | None:
    """Return the stored self-test; None if there is no file, or it is not a file of `harness selftest`."""
    try:
        document = json.loads((store.root / SELFTEST).read_text(encoding="utf-8"))
        rows = [{heading: str(row[heading]) for heading in HEADINGS} for row in document["rows"]]
        thresholds = [(str(item["name"]), f"{item['value']:.4g}", str(item["reason"])) for item in document["thresholds"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {"rows": rows, "thresholds": thresholds}


def _environment() -> Environment:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise _missing_extra(error) from None
    return Environment(
        loader=PackageLoader(__package__ or "", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as error:
        raise _missing_extra(error) from None
    return str(get_plotlyjs())


def _missing_extra(error: ModuleNotFoundError) -> UserError:
    return UserError(f"the page needs the extra: pip install 'robust-binary-harness[page]' (missing: {error.name})")
