"""Tests that every table of the command line shows each of its words whole at 60, 80 and 120 columns."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.table import Table

import harness
from harness.cli import console as consoles
from harness.cli.console import TextConsole
from harness.cli.main import main
from harness.cli.narrow import fitting
from harness.reporting.renderers import terminal

RESULTS = Path(__file__).parents[3] / "results"
MODEL = "cifar10-rn8w32-pruned-binary-k10-p01"
COMMANDS = {
    **{f"ls {kind}": ("ls", kind) for kind in ("models", "datasets", "attacks", "suites", "tables", "recipes", "families", "methods")},
    "show": ("show", MODEL, "--store", str(RESULTS)),
    "footprint": ("footprint", MODEL, "cifar10-rn8s29-dense", "--layers"),
    "plan": ("plan", "--suite", "quick", "--store", str(RESULTS)),
    "reproduce": ("reproduce",),
}


def render(table: Table, width: int) -> str:
    console = TextConsole(width=width, file=io.StringIO())
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def words(table: Table) -> set[str]:
    console = TextConsole(width=1000, file=io.StringIO())
    # Blocks have no heading for the first column.
    headings = [column.header for column in table.columns[1:]] * table.show_header
    cells = [*headings, *(cell for column in table.columns for cell in column.cells)]
    texts = [console.render_str(cell) if isinstance(cell, str) else cell for cell in cells]
    return {word for text in texts for word in text.plain.split()}


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Table]]:
    """Tables that commands print."""
    tables: list[Table] = []

    def remember(table: Table, console: TextConsole) -> list[object]:
        tables.append(table)
        return fitting(table, console)

    monkeypatch.setattr(consoles, "fitting", remember)
    yield tables


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_no_word_of_a_command_is_cut(arguments: tuple[str, ...], printed: list[Table]) -> None:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 0, result.output
    assert printed
    check(list(printed))


def test_no_word_of_a_report_is_cut(tmp_path: Path) -> None:
    made = harness.report(RESULTS, out=tmp_path, suites=["quick"], formats=["csv"])
    laid_out = [tables for section in made.sections for tables in section.report.tables.values()]
    check([table for tables in laid_out for table in terminal(tables)])


def check(tables: list[Table]) -> None:
    assert tables
    for table in tables:
        for width in (60, 80, 120):
            text = render(table, width)
            assert "…" not in text
            missing = words(table) - set(text.split())
            assert not missing
            assert all(len(line.rstrip()) <= width for line in text.splitlines()) or max(map(len, words(table))) > width - 2
