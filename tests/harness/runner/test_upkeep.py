"""Tests of the commands that invalidate outcomes, merge and verify stores, estimate a plan and show the status of a run."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.cli.main import main
from harness.runner.cost import Pilot, Rates, estimate, length, pilot
from harness.runner.execute import execute
from harness.runner.plan import Plan, plan_request
from harness.runner.results import find
from harness.runner.status import status
from harness.runner.store import Store

MODEL = "cifar10-rn8w32-pruned-binary-k05-p01"
REQUEST = ["--model", MODEL, "--attack", "pgd-20", "--attack", "cw-linf", "--n", "16"]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_request([MODEL], ["pgd-20", "cw-linf"], "cifar10-sample", 16)


@pytest.fixture(scope="module")
def finished(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("store"))
    execute(plan, store)
    return store


@pytest.fixture
def store(finished: Store, tmp_path: Path) -> Store:
    shutil.copytree(finished.root, tmp_path / "store")
    return Store(tmp_path / "store")


def harness(*arguments: str, store: Store) -> Result:
    return CliRunner().invoke(main, [*arguments, "--store", str(store.root)])


def test_invalidated_outcomes_are_not_used_and_the_reason_is_recorded(plan: Plan, store: Store, tmp_path: Path) -> None:
    result = harness("store", "invalidate", plan.units[0].id[:8], "--reason", "faulty memory", store=store)
    assert result.exit_code == 0 and "1 units" in result.output
    stored = find(store.read_all(), plan)
    assert set(stored.outcomes["attack"]) == {"cw-linf"} and len(stored.invalid) == 1 and "faulty memory" in stored.invalid[0]
    result = harness("run", *REQUEST, "--workers", "1", "--reports", str(tmp_path / "reports"), store=store)
    assert result.exit_code == 0 and "1 units run, 1 already" in result.stderr
    stored = find(store.read_all(), plan)
    assert len(stored.outcomes) == 32 and "run again, because faulty memory" in stored.invalid[0]
    assert "run again, because faulty memory" in (tmp_path / "reports" / "request" / "summary.md").read_text()


def test_a_request_can_be_invalidated_and_an_empty_selection_is_an_error(plan: Plan, store: Store) -> None:
    assert harness("store", "invalidate", *REQUEST, "--reason", "x", store=store).exit_code == 0
    assert not any(store.holds(unit) for unit in plan.ids)
    repeated = harness("store", "invalidate", *REQUEST, "--reason", "x", store=store)
    assert repeated.exit_code != 0 and "holds none" in repeated.output
    assert "begin with 'zz'" in harness("store", "invalidate", "zz", "--reason", "x", store=store).output


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (("--attack", "pgd-20"), 1),
        (("--attack", "pgd-20", "--attack", "cw-linf"), 2),
        (("--model", MODEL), 2),
        (("--model", MODEL, "--attack", "cw-linf", "--radius", "8/255", "--dataset", "cifar10-sample", "--n", "16", "--seed", "0"), 1),
        (("--radius", "4/255"), 0),
        (("--seed", "1"), 0),
        (("--n", "8"), 0),
        (("--engine", "bf16"), 0),
        (("--model", "another"), 0),
        (("--suite", "smoke"), 1),
    ],
)
def test_options_filter_units_and_invalidated_ones_are_listed(options: tuple[str, ...], count: int, store: Store, plan: Plan) -> None:
    dry_run = harness("store", "invalidate", *options, "--reason", "x", "--dry-run", store=store)
    assert all(map(store.holds, plan.ids))
    result = harness("store", "invalidate", *options, "--reason", "x", store=store)
    invalidated = [unit for unit in plan.ids if not store.holds(unit)]
    assert len(invalidated) == count and (result.exit_code == 0) == (dry_run.exit_code == 0) == bool(count)
    if not count:
        assert "holds none" in result.output
    assert all(any(line.startswith(unit[:12]) and "cifar10-sample" in line for line in result.stdout.splitlines()) for unit in invalidated)
    assert dry_run.stdout.splitlines()[:-1] == result.stdout.splitlines()[:-1]


def test_invalidating_requires_a_filter(store: Store, plan: Plan) -> None:
    result = harness("store", "invalidate", "--reason", "x", store=store)
    assert result.exit_code == 2 and "select units" in result.output and all(map(store.holds, plan.ids))


def test_merging_copies_missing_units_and_reports_conflicts(plan: Plan, finished: Store, store: Store, tmp_path: Path) -> None:
    first, second = plan.ids
    (store.units / f"{first}.json").unlink()
    result = harness("store", "merge", str(finished.root), store=store)
    assert result.exit_code == 0 and "1 units copied, 1 already present" in result.output
    assert store.read(first).table.equals(finished.read(first).table)
    other_store = Store(tmp_path / "other")
    shutil.copytree(finished.root, other_store.root)
    forge(other_store, second)
    result = harness("store", "merge", str(other_store.root), store=store)
    assert result.exit_code == 1 and f"({second[:12]}): outcomes differ, the target keeps its own" in result.output
    assert store.read(second).table.equals(finished.read(second).table)
    assert "is not a store" in harness("store", "merge", str(tmp_path), store=store).output


def forge(store: Store, unit: str) -> None:
    """Replace the outcomes of a unit by others, and their hash in its manifest."""
    import hashlib

    import pyarrow.parquet as pq

    path = store.units / f"{unit}.parquet"
    table = pq.read_table(path)
    flipped = [[not value for value in table["robust"].to_pylist()]]
    for name in ("robust", "robust_to_seen"):
        table = table.set_column(table.column_names.index(name), name, flipped)
    broken_by = [[None if robust else "forged" for robust in flipped[0]]]
    table = table.set_column(table.column_names.index("broken_by"), "broken_by", broken_by)
    pq.write_table(table, path)
    manifest = json.loads(path.with_suffix(".json").read_text())
    manifest["outcomes_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(manifest))


def test_damaged_units_are_not_merged(plan: Plan, finished: Store, store: Store, tmp_path: Path) -> None:
    other_store = Store(tmp_path / "other")
    shutil.copytree(finished.root, other_store.root)
    for path in store.units.iterdir():
        path.unlink()
    (other_store.units / f"{plan.ids[0]}.parquet").write_bytes(b"PAR1")
    manifest = json.loads((other_store.units / f"{plan.ids[1]}.json").read_text())
    manifest["identity"]["base_seed"] = 7
    (other_store.units / f"{plan.ids[1]}.json").write_text(json.dumps(manifest))
    result = harness("store", "merge", str(other_store.root), store=store)
    assert result.exit_code == 1 and "0 units copied" in result.output and "2 damaged" in result.output
    assert not any(store.holds(unit) for unit in plan.ids)


def test_verify_accepts_a_valid_store(store: Store) -> None:
    result = harness("store", "verify", store=store)
    assert result.exit_code == 0 and "2 units" in result.output and "0 problems" in result.output


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda units, unit: (units / f"{unit}.parquet").write_bytes(b"PAR1"), "sha256"),
        (lambda units, unit: (units / f"{unit}.safetensors").write_bytes(b"x"), "sha256"),
        (lambda units, unit: (units / f"{unit}.json").write_text("{"), "manifest"),
        (lambda units, unit: (units / f"{unit}.json").unlink(), "belongs to no finished unit"),
        (lambda units, unit: (units / "notes.txt").write_text("x"), "not a file of this store"),
        (lambda units, unit: (units / f".{unit}.parquet.7.tmp").write_text("x"), "killed"),
        (lambda units, unit: (units.parent / "diagnostics" / "a.json").write_text("{}"), "diagnostics"),
    ],
)
def test_verify_names_every_fault(damage, message: str, plan: Plan, store: Store) -> None:
    (store.root / "diagnostics").mkdir()
    damage(store.units, plan.ids[0])
    result = harness("store", "verify", store=store)
    assert result.exit_code == 1 and message in result.output


def test_plan_shows_stored_units_and_the_remaining_time(plan: Plan, store: Store) -> None:
    (store.units / f"{plan.ids[1]}.json").unlink()
    result = harness("plan", *REQUEST, "--json", store=store)
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert [unit["stored"] for unit in content["units"]] == [True, False] and content["models"][0]["stored"] == 1
    assert 0 < content["models"][0]["seconds"] < 600 and content["models"][0]["piloted"]
    text = harness("plan", *REQUEST, store=store)
    assert MODEL in text.stdout and "2 units, 1 stored" in text.stderr


def test_status_counts_done_running_failed_and_remaining_units(plan: Plan, store: Store) -> None:
    (store.units / f"{plan.ids[1]}.json").unlink()
    with store.claims.claimed(plan.ids[1]) as lease:
        assert lease is not None
        progress = status(plan, store)
        assert (progress.units, progress.done, progress.remaining, len(progress.running)) == (2, 1, 1, 1)
        assert progress.running[0]["pid"] == os.getpid() and progress.running[0]["since"] <= time.time()
    store.fail(plan.units[1], "it did not work")
    result = harness("status", *REQUEST, store=store)
    assert "1 of 2 units done, 0 running, 1 failed, 1 left" in result.stdout and "it did not work" in result.stderr
    # The store only has outcomes of another attack, so there is no rate from which to estimate the time.
    assert json.loads(harness("status", *REQUEST, "--json", store=store).stdout)["seconds"] is None


def test_estimates_of_time(plan: Plan, store: Store) -> None:
    measured = Pilot(forward=0.001, backward=0.002, clean=0.75, robust=0.25)
    pgd = plan.units[0]
    # 21 forward and 20 backward passes per correctly classified image, broken or not, because there is one restart.
    assert measured.seconds(pgd) == pytest.approx(16 * 0.75 * (21 * 0.001 + 20 * 0.002))
    assert length(plan_request([MODEL], ["autoattack"], "cifar10-sample", 16).units[0]) > 20 * length(pgd)
    (stored,) = estimate(plan.units[:1], Store(store.root))
    assert stored.seconds == 0 and stored.stored == 1
    rates = Rates(store.manifests())
    assert rates.seconds(pgd) == pytest.approx(store.manifest(pgd.id).seconds)
    assert rates.seconds(plan_request([MODEL], ["pgd"], "cifar10-sample", 16).units[0], any_model=True) is None


def test_a_pilot_measures_the_model_itself(plan: Plan) -> None:
    measured = pilot(plan.units[0])
    assert 0 < measured.forward < 1 and measured.backward >= 0 and 0 <= measured.robust <= measured.clean <= 1
    assert measured.clean * 16 == pytest.approx(round(measured.clean * 16))


def test_former_command_names_work_with_a_hint(store: Store) -> None:
    result = harness("verify", store=store)
    assert result.exit_code == 0 and "is now `harness store verify`" in result.stderr
    listed = CliRunner().invoke(main, ["--help"]).stdout
    assert "  store " in listed and "  verify " not in listed
    assert all(f"  {name} " in CliRunner().invoke(main, ["store", "--help"]).stdout for name in ("verify", "merge", "invalidate", "pack"))


def test_an_unknown_command_gets_a_suggestion() -> None:
    assert "Did you mean 'report'?" in CliRunner().invoke(main, ["raport"]).output
    assert "Did you mean 'pack'?" in CliRunner().invoke(main, ["store", "pakc"]).output
