"""Tests that titles and names are printed as plain text, in the terminal and in files."""

import io

import pytest
from rich.table import Table

from harness.cli.console import TextConsole
from harness.reporting import cells
from harness.reporting.cells import Cell

NASTY = "[red]x[/red] :smile: \x1b[31m\r\x07"
SHOWN = r"[red]x[/red] :smile: \x1b[31m\r\x07"


@pytest.mark.parametrize("style", ["", "dim"])
def test_markup_and_control_characters_are_escaped(style: str) -> None:
    stream = io.StringIO()
    console = TextConsole(file=stream, width=200, force_terminal=False)
    console.print(NASTY, style=style)
    table = Table(title=NASTY)
    table.add_column(NASTY)
    table.add_row(NASTY)
    table.add_row(cells.terminal(Cell("text", NASTY, is_best=True)))
    console.print(table)
    assert stream.getvalue().count(SHOWN) == 5 and "\x1b" not in stream.getvalue()


def test_text_is_escaped_in_files() -> None:
    assert cells.markdown(Cell("text", "a|b<script>`x`*y*\n[l](u)")) == r"a\|b\<script>\`x\`\*y\*\\n[l\](u)"
    assert cells.markdown(Cell("text", "<0.001, rn8_w32 [2]")) == "<0.001, rn8_w32 [2]"
    assert cells.latex(Cell("text", "a_b & 5 % \x1b")) == r"a\_b \& 5 \% \textbackslash{}x1b"
