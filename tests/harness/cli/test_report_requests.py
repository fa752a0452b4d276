"""Tests that outcomes outside every suite appear in a report, with a user's model and shipped models in one table."""

from dataclasses import replace
from pathlib import Path

from click.testing import CliRunner

from harness.cli.main import main
from harness.evaluation.unit import evaluate_unit
from harness.runner.plan import plan_request
from harness.runner.store import Store
from model_zoo.loading import load_model
from model_zoo.threat import ThreatModel

DENSE = "cifar10-rn8s29-dense"
THREAT = ThreatModel.parse("Linf 3/255")


def test_a_report_contains_outcomes_outside_the_suites(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    (unit,) = plan_request([DENSE], ["pgd"], "cifar10-sample", 4, [THREAT]).units
    outcome = evaluate_unit(load_model(DENSE), unit.block, unit.threat, unit.attack, unit.seed)
    store.write(unit, outcome, {})
    # A user's model is stored under its id, without a record in the registry.
    user_unit = replace(unit, record=unit.record.model_copy(update={"id": "mine", "weights_sha256": "0" * 64}))
    store.write(user_unit, outcome, {})
    out = tmp_path / "out"
    result = CliRunner().invoke(main, ["report", "--store", str(store.root), "--out", str(out)])
    assert result.exit_code == 0, result.output
    table = (out / "requests" / "summary.md").read_text()
    assert "| mine |" in table and f"| {DENSE} |" in table and "Linf 3/255, n = 4" in table
    suite_only = CliRunner().invoke(main, ["report", "--store", str(store.root), "--out", str(out), "--suite", "smoke"])
    assert suite_only.exit_code == 1 and "no outcomes of suite smoke" in suite_only.output
