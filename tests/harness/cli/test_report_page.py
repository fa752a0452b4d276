"""Tests of `harness report --html`: it writes the page of a store or prints a one-line error."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.main import main
from harness.runner.plan import plan_suite
from harness.runner.store import Store
from harness.runner.suite import get_suite
from model_zoo.registry import model_ids
from tests.harness.reporting.page.conftest import store_outcome


def test_page_of_an_empty_store_is_an_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["report", "--html", "--store", str(tmp_path / "empty"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1 and "no outcomes" in result.stderr and len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.needs_page
def test_every_registered_model_has_a_page_and_no_table_is_written(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for unit in plan_suite(get_suite("smoke")).units:
        store_outcome(store, unit, 5)
    arguments = ["report", "--html", "--suite", "smoke", "--store", str(store.root), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.stderr
    folder = tmp_path / "out" / "page"
    assert str(folder / "index.html") in result.stderr
    assert {path.stem for path in (folder / "models").iterdir()} == set(model_ids())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["page"]
