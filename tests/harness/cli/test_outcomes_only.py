"""Tests of models that are too large to ship: they are listed, and skipped with a message if a command needs their checkpoint."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.cli.main import main
from harness.runner.cost import estimate
from harness.runner.execute import execute
from harness.runner.plan import plan_request
from harness.runner.status import status
from harness.runner.store import Store
from model_zoo import registry
from model_zoo.errors import MissingDataError
from model_zoo.loading import load_model

LARGE, SMALL = "cifar10-large", "cifar10-rn8w32-pruned-binary-k01-p01"


@pytest.fixture(autouse=True)
def _register_large_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = registry.get_record(SMALL)
    checkpoint = record.checkpoint.model_copy(update={"file": f"{LARGE}.safetensors", "bytes": 45_000_000})
    changes = {"id": LARGE, "ships": False, "checkpoint": checkpoint, "weights_sha256": "0" * 64}
    path = tmp_path / "records" / f"{LARGE}.toml"
    path.parent.mkdir()
    registry.write_record(record.model_copy(update=changes), path.parent)
    shipped = {SMALL: registry.record_path(SMALL), LARGE: path}
    monkeypatch.setattr(registry, "_shipped", lambda: shipped)


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_model_is_listed_as_outcomes_only() -> None:
    rows = {row["id"]: row["present"] for row in json.loads(run("ls", "models", "--json").stdout)}
    assert rows == {SMALL: True, LARGE: "outcomes only"}
    assert "outcomes only" in run("ls", "models").stdout


def test_loading_the_model_names_its_recipe() -> None:
    with pytest.raises(MissingDataError, match=f"outcomes only.*43 MiB.*harness train {SMALL}"):
        load_model(LARGE)
    # A shipped model has its file, so no reason for absence is reported.
    assert registry.absence(SMALL) is None


def test_verify_skips_the_model_with_a_message(tmp_path: Path) -> None:
    result = run("store", "verify", "--store", tmp_path / "store")
    assert result.exit_code == 0 and LARGE in result.stderr and "outcomes only" in result.stderr
    assert "1 registered models are unchanged, 0 problems" in result.stdout


def test_show_prints_the_record_without_a_footprint(tmp_path: Path) -> None:
    result = run("show", LARGE, "--store", tmp_path / "store")
    assert result.exit_code == 0 and "outcomes only" in result.stdout
    assert json.loads(run("show", LARGE, "--store", tmp_path / "store", "--json").stdout)["footprint"] is None


def test_a_plan_runs_the_other_models_and_reports_the_absent_one(tmp_path: Path) -> None:
    plan, store = plan_request([SMALL, LARGE], ["pgd"], "cifar10-sample", 4), Store(tmp_path / "store")
    before = status(plan, store)
    assert (before.units, before.done, before.remaining) == (1, 0, 1)
    assert [entry.model for entry in estimate(plan.units, store)] == [SMALL]
    report = execute(plan, store)
    assert [unit.model for unit in report.finished] == [SMALL] and not report.failed
    assert [unit.model for unit in report.not_run] == [LARGE] and len(report.absent) == 1 and LARGE in report.absent[0]


def test_running_the_model_by_name_is_a_one_line_error(tmp_path: Path) -> None:
    result = run("run", "--model", LARGE, "--n", 4, "--store", tmp_path / "store", "--reports", tmp_path / "reports")
    assert result.exit_code == 1 and f"harness train {SMALL}" in result.stderr and "Traceback" not in result.output
