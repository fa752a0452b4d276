"""Tests that the page of the paper's tables shows every published number and distinguishes the scales."""

import re

import pytest

from harness.reproduction.made import make
from harness.reproduction.specification import get
from tests.harness.reproduction.test_layout import MEASUREMENTS

pytestmark = pytest.mark.needs_page


def test_published_and_measured_numbers_are_distinguished() -> None:
    from harness.reporting.page.site import PaperTable, _environment, _on_page

    table = get("table-2")
    parts = make(table, MEASUREMENTS).parts
    html = (
        _environment()
        .get_template("paper.html")
        .render(root="", tables=[_on_page(PaperTable(table.name, table.number, table.title, parts))])
    )
    assert table.title in html
    for cell in table.grid.values():
        assert cell.published.percent in html
    assert re.search(r'<td class="number measured ">(<b>)?45', html)
    assert re.search(r'<td class="number small">\(30\.0\)', html)
    assert "<b>45.06</b>" in html
