"""Tests of cells: each kind of value in each output format."""

import pytest

from harness.reporting import cells
from harness.reporting.cells import Cell, accuracy_cell, published_cell, value_cell

DIFFERENCE = Cell("difference", -0.024, (-0.04, -0.008), n=40, planned=40)
SPREAD = Cell("spread", 0.05, (0.3, 0.4))


@pytest.mark.parametrize(
    ("cell", "line", "below"),
    [
        (accuracy_cell(5, 8), "62.5 [30.6, 86.3]", "62.5\n31–86"),
        (accuracy_cell(5, 8, 16, verdict="masked"), "62.5‡ [30.6, 86.3] partial 8/16", "62.5‡\n31–86\npartial\n8/16"),
        (accuracy_cell(5, 8, flags=("saturated",), verdict="undiagnosed"), "62.5?§ [30.6, 86.3]", "62.5?§\n31–86"),
        (accuracy_cell(5, 8, flags=("non-finite",)), "62.5 [30.6, 86.3]", "62.5\n31–86"),
        (accuracy_cell(0, 0, 8, ("saturated",), "masked"), "partial 0/8", "partial\n0/8"),
        (Cell("accuracy"), "", ""),
        (published_cell(0.4506, 10_000), "45.06 [44.1, 46.0]", "45.06\n44–46"),
        (published_cell(0.3304, None), "33.04", "33.04"),
        (published_cell(float("nan"), 10), "", ""),
        (DIFFERENCE, "−2.4 [−4.0, −0.8]", "−2.4\n−4.0 to −0.8"),
        (SPREAD, "30.0–40.0 (sd 5.0)", "30.0–40.0\nsd 5.0"),
        (value_cell("integer", 2048.0), "2,048", "2,048"),
        (value_cell("percent", 0.9), "90", "90"),
        (value_cell("number", 0.123456), "0.1235", "0.1235"),
        (value_cell("p", 0.0001), "<0.001", "<0.001"),
        (value_cell("integer", None), "–", "–"),
        (value_cell("count", float("nan")), "", ""),
        # Text that resembles a number with an interval, or markup, is unchanged.
        (value_cell("text", "ResNet-8 (width 32)"), "ResNet-8 (width 32)", "ResNet-8 (width 32)"),
        (value_cell("text", "a [1, 2]"), "a [1, 2]", "a [1, 2]"),
        (value_cell("text", "[bold]x"), "[bold]x", "[bold]x"),
    ],
)
def test_cell_on_one_line_and_in_a_narrow_column(cell: Cell, line: str, below: str) -> None:
    assert str(cell) == cells.markdown(cell) == line
    assert cells.terminal(cell).plain == below


def test_special_characters_are_escaped() -> None:
    assert cells.markdown(Cell("text", "a|b")) == r"a\|b"
    assert cells.latex(accuracy_cell(5, 8, flags=("saturated",), verdict="masked")) == r"62.5\ddag{}\S{} [30.6, 86.3]"


def test_page_cells_have_parts_and_a_sort_key() -> None:
    shown = cells.page(accuracy_cell(5, 8, 16, ("zero-gradient",)))
    assert (shown.text, shown.interval, shown.note, shown.sort) == ("62.5§", "[30.6, 86.3]", "partial 8/16", "0.625")
    assert shown.ends is not None and shown.ends == pytest.approx((30.57, 62.5, 86.32), abs=0.01)
    unknown = cells.page(accuracy_cell(0, 0, 8))
    assert (unknown.text, unknown.note, unknown.sort, unknown.ends) == ("", "partial 0/8", "", None)


def test_notes_explain_the_marks_in_use() -> None:
    marked = accuracy_cell(5, 8, flags=("non-finite", "saturated"), verdict="suspicious")
    other = accuracy_cell(5, 8, flags=("zero-gradient",))
    assert cells.verdict_notes([marked, other]) == ["†: suspicious."]
    (note,) = cells.flag_notes([marked, other])
    assert note.startswith("§: images have no gradient") and note.endswith("(flags zero-gradient, saturated).")
    assert not cells.flag_notes([accuracy_cell(5, 8, flags=("non-finite",)), accuracy_cell(0, 0, 8, ("saturated",))])


def test_best_numbers_are_bold_and_small_scale_numbers_in_parentheses() -> None:
    best = Cell("published", 0.4506, suffix="¹", is_best=True)
    assert (str(best), cells.markdown(best), cells.latex(best)) == ("45.06¹", "**45.06**¹", r"\textbf{45.06}\textsuperscript{1}")
    assert cells.terminal(best).plain == "45.06¹" and "bold" in str(cells.terminal(best).spans)
    small = accuracy_cell(5, 8, 16)
    small = Cell(small.kind, small.value, small.interval, small.successes, small.n, small.planned, is_best=True, is_small=True)
    assert cells.markdown(small) == "(**62.5** [30.6, 86.3] partial 8/16)"
    assert cells.terminal(small).plain == "(62.5)\n31–86\npartial\n8/16"
    assert str(Cell("accuracy", is_small=True)) == "", "an empty cell has no parentheses"
