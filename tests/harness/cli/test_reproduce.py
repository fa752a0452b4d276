"""Tests of `harness reproduce`, of the paper's tables in reports, and of `harness.reproduce` in Python."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import harness
from harness.cli.main import main
from harness.reporting import renderers
from harness.reproduction import measurements
from harness.reproduction.grid import fill
from harness.reproduction.made import make
from harness.reproduction.settings import Settings
from harness.reproduction.specification import get, names
from harness.runner.store import Store
from tests.harness.reproduction.test_layout import MEASUREMENTS


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def measured_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurements, "stored", lambda store, *arguments: MEASUREMENTS)


def test_the_status_counts_every_table(tmp_path: Path) -> None:
    rows = json.loads(call("reproduce", "--store", str(tmp_path), "--json").output)
    by_name = {row["table"]: row for row in rows if "table" in row}
    assert list(by_name) == names()
    assert by_name["liu2022-9"]["published"] == 108 and by_name["liu2022-9"]["missing"] == {"paper": 108, "small": 108}
    assert by_name["liu2022-7"]["computed"] and not by_name["liu2022-1"]["computed"]
    text = call("reproduce", "--store", str(tmp_path)).output
    assert all(name in text for name in names()) and "computed" in text


@pytest.mark.usefixtures("measured_cells")
def test_the_status_counts_measured_cells(tmp_path: Path) -> None:
    rows = json.loads(call("reproduce", "--store", str(tmp_path), "--json").output)
    table = next(row for row in rows if row["table"] == "liu2022-2")
    assert table["measured"] == {"paper": 1, "small": 4} and table["missing"] == {"paper": 7, "small": 4}


@pytest.mark.usefixtures("measured_cells")
@pytest.mark.parametrize("command", [["reproduce", "table-2"], ["report", "--table", "liu2022-2"]])
def test_a_table_shows_measured_cells(tmp_path: Path, command: list[str]) -> None:
    out = ["--out", str(tmp_path / "out"), "--format", "md"] if command[0] == "report" else []
    result = call(*command, "--store", str(tmp_path), *out)
    assert result.exit_code == 0, result.output
    assert "45.06" in result.output and "(30.0)" in result.output and "45.1" in result.output
    assert "Kendall's tau-b between published and measured" in result.output and "over 3 cells" in result.output


def test_json_and_python_have_the_same_cells(tmp_path: Path) -> None:
    rows = json.loads(call("reproduce", "liu2022-3", "--store", str(tmp_path), "--json").output)
    frame = harness.reproduce("table-3", store=tmp_path)
    assert len(rows) == len(frame) == 28
    assert [row["published"] for row in rows] == frame["published"].tolist()


@pytest.mark.parametrize("command", [["reproduce", "tabel-3"], ["report", "--table", "liu2022-33"]])
def test_an_unknown_table_is_a_one_line_error_with_a_suggestion(tmp_path: Path, command: list[str]) -> None:
    result = call(*command, "--store", str(tmp_path))
    assert result.exit_code == 2
    assert "unknown table" in result.stderr and "Did you mean" in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.mark.usefixtures("measured_cells")
def test_the_paper_report_lists_tables_in_order_and_is_reproducible(tmp_path: Path) -> None:
    result = call("report", "--table", "table-2", "--store", str(tmp_path), "--out", str(tmp_path), "--format", "md", "--format", "tex")
    assert result.exit_code == 0, result.output
    folder = tmp_path / "paper"
    index = (folder / "README.md").read_text()
    titles = [f"## Table {get(name).number}: {get(name).title}" for name in names()]
    assert [line for line in index.splitlines() if line.startswith("## ")] == titles
    assert "| 2 | Robust accuracy by score scale a, without and with a last batch norm | 8 | 1 of 8 | 4 of 8 |" in index
    assert {path.name for path in folder.iterdir()} == {"README.md", *(f"{name}.tex" for name in names())}
    assert "45.06" in (folder / "liu2022-2.tex").read_text()
    before = {path: path.read_bytes() for path in folder.iterdir()}
    call("report", "--table", "table-2", "--store", str(tmp_path), "--out", str(tmp_path), "--format", "md", "--format", "tex")
    assert before == {path: path.read_bytes() for path in folder.iterdir()}, "the same bytes every time"


def test_committed_tables_match_the_committed_store() -> None:
    root = Path(__file__).parents[3]
    table = make(get("table-1"), measurements.stored(Store(root / "results")))
    assert (root / "reports" / "paper" / "liu2022-1.csv").read_text() == renderers.csv(table.frame)


def test_filling_a_table_requests_settings_measure_and_scale() -> None:
    requests: list[tuple[Settings, str, str]] = []

    def measurement(settings: Settings, measure: str, scale: str) -> None:
        requests.append((settings, measure, scale))

    fill(get("table-10"), measurement)
    assert {(measure, scale) for _, measure, scale in requests} == {("clean", "paper"), ("clean", "small")} and len(requests) == 122
