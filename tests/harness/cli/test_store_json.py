"""Tests of the JSON that the commands of `harness store` print."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.cli.main import main

RESULTS = Path(__file__).parents[3] / "results"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    for name in ("outcomes.parquet", "manifests.json.zst"):
        shutil.copy(RESULTS / name, folder)
    return folder


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(main, ["store", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_commands_of_a_store_print_json(store: Path, tmp_path: Path) -> None:
    filters = ("--store", store, "--suite", "quick", "--reason", "a test", "--dry-run")
    rows = run("invalidate", *filters, "--model", "cifar10-rn8s29-dense")
    assert {row["attack"] for row in rows} == {"pgd", "cw-linf", "autoattack", "cw-l2"}
    assert {row["model"] for row in rows} == {"cifar10-rn8s29-dense"}
    (merged,) = run("merge", store, "--store", tmp_path / "copy")
    packed = run("pack", "--store", tmp_path / "copy")
    verified = run("verify", "--store", tmp_path / "copy")
    assert len(merged["copied"]) == packed["units"] == verified["units"] > 700
    assert verified["problems"] == [] and verified["models"] > 40
