"""Tests that one command trains, attacks and prints a table, and continues after it was killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import harness
from harness.cli.main import main
from harness.runner.store import Store

FOLDER = Path(__file__).parents[1] / "reproduction"
TABLE, TINY = str(FOLDER / "two-cells.toml"), str(FOLDER / "tiny.toml")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["reproduce", *arguments])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store in which a run of the table was killed during its first training and then completed."""
    store = tmp_path_factory.mktemp("store")
    command = [sys.executable, "-m", "harness.cli.main", "reproduce", TABLE, "--scale", TINY, "--store", str(store)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 100
    while not list(store.rglob("*.state.pt")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    _, stderr = process.communicate()
    assert process.returncode == -9, stderr
    assert list(store.rglob("*.state.pt"))
    assert not Store(store / "cells").trainings.ids()
    result = call(TABLE, "--scale", TINY, "--store", str(store))
    assert result.exit_code == 0, result.output
    assert "2 models trained, 2 blocks of images attacked, 0 failed, 0 models left out" in result.stderr
    assert "small scale: 2 of 2" in result.stdout
    return store


def test_completed_units_are_not_repeated(store: Path) -> None:
    result = call(TABLE, "--scale", TINY, "--store", str(store))
    assert "0 models trained, 0 blocks of images attacked" in result.stderr
    assert len(Store(store / "cells").trainings.ids()) == 2
    assert not list(store.rglob("*.state.pt"))


def test_python_returns_the_frame(store: Path) -> None:
    frame = harness.reproduce(TABLE, scale=TINY, store=store)
    assert frame["row"].tolist() == ["dense", "pruned"]
    assert frame["small_n"].tolist() == [20, 20]
    assert harness.reproduce(TABLE, scale=TINY, rows=["pruned"], store=store)["row"].tolist() == ["pruned"]


def test_trained_cells_are_listed_on_request(store: Path) -> None:
    rows = json.loads(CliRunner().invoke(main, ["ls", "models", "--cells", "--store", str(store), "--json"]).stdout)
    assert sorted(row["family"] for row in rows) == ["dense", "pruned-binary"]
    assert all(row["present"] and row["bytes"] > 0 and row["id"].endswith("-tiny") for row in rows)
    result = CliRunner().invoke(main, ["ls", "models", "--store", str(store)])
    assert "and 2 models of table cells" in result.stderr
    assert not any(row["id"] in result.stdout for row in rows)
    assert CliRunner().invoke(main, ["ls", "suites", "--cells"]).exit_code == 2


def test_the_plan_lists_missing_trainings(store: Path, tmp_path: Path) -> None:
    done = json.loads(call(TABLE, "--scale", TINY, "--store", str(store), "--plan", "--json").stdout)
    assert done["trainings"] == []
    assert done["attack_seconds"] == 0
    missing = json.loads(call(TABLE, "--row", "dense", "--scale", TINY, "--store", str(tmp_path), "--plan", "--json").stdout)
    (training,) = missing["trainings"]
    assert training["training_seconds"] > 0
    assert training["recipe"].endswith("-tiny")
    assert not (tmp_path / "cells").exists()


def test_without_a_scale_nothing_runs(tmp_path: Path) -> None:
    result = call(TABLE, "--store", str(tmp_path))
    assert result.exit_code == 0
    assert "10.00" in result.stdout
    assert not list(tmp_path.iterdir())


def test_a_cell_without_counterpart_is_reported(tmp_path: Path) -> None:
    result = call("table-5", "--column", "RN50", "--scale", TINY, "--store", str(tmp_path), "--plan")
    assert result.exit_code == 0, result.output
    assert "no counterpart of the architecture rn50" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scale", "small"], "name a table"),
        (["table-1", "--scale", "smal"], "unknown scale"),
        (["table-1", "--column", "0.55", "--plan"], "unknown column"),
        (["figure-9"], "unknown figure"),
    ],
)
def test_unknown_names_are_one_line_errors(arguments: list[str], words: str, tmp_path: Path) -> None:
    result = call(*arguments, "--store", str(tmp_path))
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
