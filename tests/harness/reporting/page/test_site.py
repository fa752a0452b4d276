"""Tests of the page without a browser: its links, its content, and that nothing is loaded from a network."""

import csv
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from harness.reporting.frames import summary
from harness.reporting.page.site import build
from harness.runner.store import Store
from model_zoo.errors import UserError
from tests.harness.reporting.page.conftest import DENSE, HOSTILE, HUNDRED, IDLE, PRUNED, REASON, TITLE, Material

pytestmark = pytest.mark.needs_page


class Parsed(HTMLParser):
    """Tags with their attributes and the text of an HTML file; asserts that every tag is closed."""

    VOID = ("meta", "link", "img", "input", "br", "path", "circle")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open, f"{path.name}: {self.open} never closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes another"

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, name: str) -> list[str]:
        return [attributes[name] for opened, attributes in self.tags if opened == tag and name in attributes]


def htmls(page: Path) -> list[Path]:
    return sorted(page.rglob("*.html"))


def test_every_link_and_fragment_has_a_target(page: Path) -> None:
    parsed = {path: Parsed(path) for path in htmls(page)}
    links = 0
    for path, html in parsed.items():
        for link in html.all("a", "href") + html.all("link", "href") + html.all("script", "src") + html.all("img", "src"):
            parts = urlsplit(link)
            assert not parts.scheme and not parts.netloc, link
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file() and page.resolve() in target.resolve().parents, f"{path.name} links to {link}"
            if parts.fragment:
                assert parts.fragment in [attributes.get("id") for _, attributes in parsed[page / target.relative_to(page.resolve())].tags]
            links += 1
    assert links > 100


def test_pages_load_nothing_from_a_network(page: Path) -> None:
    for path in [*htmls(page), *page.rglob("*.css")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"""(?:src|href|srcset|action)\s*=\s*["']?\s*(?:https?:)?//|@import|url\(\s*["']?(?:https?:)?//""", text), (
            path.name
        )
    assert (page / "assets" / "plotly.min.js").stat().st_size > 1_000_000


def test_every_model_has_a_page_and_every_file_is_linked(page: Path, material: Material) -> None:
    assert {path.stem for path in (page / "models").iterdir()} == set(material.models)
    linked = {
        (path.parent / link).resolve() for path in htmls(page) for tag in (("a", "href"), ("img", "src")) for link in Parsed(path).all(*tag)
    }
    unused = [
        path
        for folder in ("data", "pictures", "models")
        for path in (page / folder).rglob("*")
        if path.is_file() and path.resolve() not in linked
    ]
    assert not unused


def test_building_is_reproducible(page: Path, material: Material, tmp_path: Path) -> None:
    material.build(tmp_path)
    first, second = ({path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()} for root in (page, tmp_path))
    assert first == second
    assert str(material.store.root).encode() not in b"".join(content for name, content in first.items() if name.name != "plotly.min.js")


def test_rebuilding_removes_old_pages_and_keeps_foreign_files(material: Material, tmp_path: Path) -> None:
    build(material.store, [], [], {IDLE: IDLE, DENSE: DENSE}, tmp_path / "page")
    outside, cname = tmp_path / "outside.txt", tmp_path / "page" / "CNAME"
    for path in (outside, cname):
        path.write_text("mine")
    with (tmp_path / "page" / "files.txt").open("a", encoding="utf-8") as listing:
        listing.write("../outside.txt\n")
    written = build(material.store, [], [], {IDLE: IDLE}, tmp_path / "page")
    assert not list((tmp_path / "page").rglob(f"*{DENSE}*"))
    assert {path for path in (tmp_path / "page").rglob("*") if path.is_file()} == {*written, cname}
    assert outside.read_text() == "mine"


def test_markup_in_records_and_stores_is_escaped(page: Path) -> None:
    model, notes = Parsed(page / "models" / f"{HOSTILE}.html"), Parsed(page / "notes.html")
    assert TITLE in model.text and REASON in notes.text
    assert "logits <i>too large</i>" in Parsed(page / "selftest.html").text
    for path in htmls(page):
        source = path.read_text(encoding="utf-8")
        assert "<script>alert" not in source and "<b>too hot" not in source and "<i>too" not in source


def test_numbers_match_the_summary_and_partial_ones_are_marked(page: Path, material: Material) -> None:
    cells = rows_of(page, "full-cifar10-sample-linf-8-255")
    frame = summary(material.results[0].outcomes, material.results[0].models, material.results[0].expected)
    selected = frame[(frame["dataset"] == "cifar10-sample") & (frame["norm"] == "Linf")].set_index("model")
    assert set(cells) == set(selected.index) == {PRUNED, DENSE, HOSTILE}
    for model, row in selected.iterrows():
        assert float(cells[str(model)]["worst"]) == pytest.approx(100 * row["worst"], abs=1e-3)
    html = (page / "index.html").read_text(encoding="utf-8")
    dense = re.search(rf'<tr data-model="{DENSE}".*?</tr>', html, re.DOTALL)
    assert dense and "partial 12/40" in dense[0] and "not diagnosed" in dense[0]
    # 4 of 12 with its interval, and the mark of a model that has not been diagnosed.
    assert ">33.3?<" in dense[0] and ">[13.8, 60.9]<" in dense[0]
    pruned = re.search(rf'<tr data-model="{PRUNED}".*?</tr>', html, re.DOTALL)
    assert pruned and "partial" not in pruned[0] and ">25.0<" in pruned[0] and ">ok<" in pruned[0]
    hundred = re.search(rf'<tr data-model="{HUNDRED}".*?</tr>', html, re.DOTALL)
    assert hundred and "‡" in hundred[0] and "masked" in hundred[0]


def rows_of(page: Path, board: str) -> dict[str, dict[str, str]]:
    """Return the data attributes of the rows of one board, by model."""
    rows: dict[str, dict[str, str]] = {}
    current = ""
    for tag, attributes in Parsed(page / "index.html").tags:
        current = attributes.get("id", "") if tag == "section" else current
        if tag == "tr" and current == board and "data-model" in attributes:
            rows[attributes["data-model"]] = {name.removeprefix("data-"): value for name, value in attributes.items()}
    return rows


def test_no_table_mixes_threat_models(page: Path) -> None:
    boards = [attributes for tag, attributes in Parsed(page / "index.html").tags if tag == "section" and attributes.get("class") == "board"]
    keys = [(board["data-suite"], board["data-dataset"], board["data-threat"]) for board in boards]
    assert keys == [
        ("full", "cifar10-sample", "Linf 8/255"),
        ("full", "cifar10-sample", "L2 1/2"),
        ("full", "cifar100-sample", "Linf 4/255"),
        ("short", "cifar10-sample", "Linf 8/255"),
    ]


def test_taxonomy_filters_and_row_attributes(page: Path) -> None:
    html = Parsed(page / "index.html")
    assert html.all("select", "data-taxonomy") == ["when", "scored", "structured", "scope"]
    rows = rows_of(page, "full-cifar10-sample-linf-8-255")
    assert {name: rows[HOSTILE][name] for name in ("when", "scored", "structured", "scope")} == {
        "when": "before",
        "scored": "random",
        "structured": "no",
        "scope": "local",
    }
    assert rows[PRUNED]["scored"] == "learned" and rows[DENSE]["when"] == ""


def test_model_pages_show_footprint_attacks_and_diagnosis(page: Path) -> None:
    text = Parsed(page / "models" / f"{PRUNED}.html").text
    for phrase in ("bitmap + kept values", "16,950", "PGD on the margin", "pgd", "cw-linf", "taken for", "epochs = 5"):
        assert phrase in text
    idle = Parsed(page / "models" / f"{IDLE}.html").text
    assert "No outcomes in this store" in idle and "Not diagnosed" in idle and IDLE in Parsed(page / "index.html").text
    masked = Parsed(page / "models" / f"{HUNDRED}.html").text
    assert "250 of 250 images have no gradient at all" in masked


def test_data_files_of_a_model_match_the_store(page: Path, material: Material) -> None:
    with (page / "data" / "outcomes" / f"{DENSE}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    frames = [result.outcomes for result in material.results]
    units = {unit for frame in frames for unit in frame.loc[frame["model"] == DENSE, "unit"]}
    assert {row["unit"] for row in rows} == units and {row["model"] for row in rows} == {DENSE}
    for unit in units:
        assert (page / "data" / "units" / f"{unit}.json").read_bytes() == (material.store.units / f"{unit}.json").read_bytes()
    assert (page / "data" / "summary-full.csv").is_file()


def test_notes_list_excluded_units(page: Path) -> None:
    text = Parsed(page / "notes.html").text
    assert f"{PRUNED} · pgd · cifar10-sample, 16 images: {REASON}" in text
    assert f"{PRUNED} · cw-linf · cifar10-sample" in text
    assert f"{'0' * 64}.json: expected a unit's manifest" in text


def test_a_page_can_be_built_without_selftest_and_diagnostics(material: Material, tmp_path: Path) -> None:
    empty = Store(tmp_path / "bare")
    Material(empty, [], {IDLE: IDLE}).build(tmp_path / "page")
    assert "harness selftest" in Parsed(tmp_path / "page" / "selftest.html").text
    assert "No outcomes are stored" in Parsed(tmp_path / "page" / "index.html").text


def test_a_missing_extra_is_a_one_line_error(material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UserError, match=r"robust-binary-harness\[page\]"):
        material.build(tmp_path)
    assert not list(tmp_path.iterdir())
