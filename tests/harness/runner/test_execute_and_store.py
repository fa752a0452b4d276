"""Tests of running, storing and resuming units: real models under a real attack on a few real images."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from harness.runner import work
from harness.runner.execute import execute
from harness.runner.plan import Plan, plan_request
from harness.runner.results import agreement, outcomes, select
from harness.runner.store import Store
from model_zoo.errors import DamagedFileError
from model_zoo.references import RegisteredModel

MODELS = ["cifar10-rn8w32-pruned-binary-k05-p01", "cifar10-rn8w32-pruned-binary-k20-p01"]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_request(MODELS, ["cw-linf"], "cifar10-sample", 12)


@pytest.fixture(scope="module")
def finished(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("store"))
    assert len(execute(plan, store).finished) == 2
    return store


@pytest.fixture
def copy(finished: Store, tmp_path: Path) -> Store:
    (tmp_path / "units").mkdir()
    for path in finished.units.iterdir():
        (tmp_path / "units" / path.name).write_bytes(path.read_bytes())
    return Store(tmp_path)


def test_outcomes_have_one_consistent_row_per_image(plan: Plan, finished: Store) -> None:
    frame, damaged = outcomes(finished)
    assert not damaged and len(frame) == 24
    assert set(frame["model"]) == set(MODELS)
    wrong = frame["clean_prediction"] != frame["label"]
    assert (frame.loc[wrong, "broken_by"] == "clean").all() and not frame.loc[wrong, "robust"].any()
    assert (frame.loc[wrong, "forwards"] == 0).all()
    assert frame.loc[frame["robust"], "broken_by"].isna().all()
    assert (frame.loc[frame["robust"], "adversarial_prediction"] == frame.loc[frame["robust"], "label"]).all()
    broken = frame["broken_by"] == "cw-linf"
    assert broken.any() and (frame.loc[broken, "adversarial_prediction"] != frame.loc[broken, "label"]).all()
    assert (frame["linf"] <= 8 / 255 + 1e-6).all() and (frame.loc[broken, "linf"] > 0).all()
    assert (frame.loc[~wrong, "forwards"] >= 1).all()


def test_running_again_uses_the_stored_units(plan: Plan, copy: Store) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in copy.units.iterdir()}
    report = execute(plan, copy)
    assert (len(report.stored), len(report.finished)) == (2, 0)
    assert {path.name: path.stat().st_mtime_ns for path in copy.units.iterdir()} == before


def test_outcome_files_are_reproducible(plan: Plan, finished: Store, tmp_path: Path) -> None:
    execute(plan, Store(tmp_path))
    for unit in plan.units:
        assert (tmp_path / "units" / f"{unit.id}.parquet").read_bytes() == (finished.units / f"{unit.id}.parquet").read_bytes()


def test_an_interrupted_run_continues(plan: Plan, copy: Store) -> None:
    (copy.units / f"{plan.units[1].id}.json").unlink()
    report = execute(plan, copy)
    assert [unit.id for unit in report.stored] == [plan.units[0].id]
    assert [unit.id for unit in report.finished] == [plan.units[1].id]


@pytest.mark.parametrize("suffix", ["parquet", "json"])
def test_a_damaged_file_is_named_and_its_unit_runs_again(suffix: str, plan: Plan, copy: Store) -> None:
    path = copy.units / f"{plan.units[0].id}.{suffix}"
    path.write_bytes(path.read_bytes()[:100])
    frame, damaged = outcomes(copy)
    assert len(frame) == 12 and [error.path for error in damaged] == [path]
    assert [unit.id for unit in execute(plan, copy).finished] == [plan.units[0].id]
    assert len(outcomes(copy)[0]) == 24


def test_foreign_and_newer_files_are_named_and_skipped(copy: Store, plan: Plan) -> None:
    (copy.units / "notes.json").write_text("[]")
    path = copy.units / f"{plan.units[0].id}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))
    frame, damaged = outcomes(copy)
    assert len(frame) == 12
    assert sorted(error.path.name for error in damaged) == sorted(["notes.json", path.name])


def test_a_failing_model_does_not_stop_the_others(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_model = RegisteredModel.open
    work.open_checked.cache_clear()

    def damaged(reference: RegisteredModel) -> object:
        if reference.id == MODELS[0]:
            raise DamagedFileError("first.safetensors", "10 bytes", "9 bytes")
        return open_model(reference)

    monkeypatch.setattr(RegisteredModel, "open", damaged)
    report = execute(plan, Store(tmp_path))
    assert [line for _, line in report.failed] and "first.safetensors" in report.failed[0][1]
    assert [unit.model for unit in report.finished] == [MODELS[1]]


def test_broken_images_are_stored(plan: Plan, finished: Store) -> None:
    for unit in plan.units:
        frame = finished.read(unit.id).frame
        saved = load_file(finished.units / f"{unit.id}.safetensors")
        expected = frame.loc[frame["broken_by"] == "cw-linf", "image"].head(8)
        assert saved["image"].tolist() == expected.tolist()
        assert float(np.abs(saved["perturbation"]).max()) <= 8 / 255 + 1e-4


def test_outcomes_of_an_attack_at_fault_are_not_used(plan: Plan, copy: Store) -> None:
    path = copy.units / f"{plan.units[0].id}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "at_fault": True}))
    assert set(outcomes(copy)[0]["model"]) == {plan.units[1].record.id}


def test_agreement_counts_common_images(finished: Store) -> None:
    frame, _ = outcomes(finished)
    changed = frame.iloc[4:].copy()
    changed.loc[changed.index[0], "robust"] = ~changed.loc[changed.index[0], "robust"]
    assert agreement(frame, changed) == (19, 20)
    assert agreement(frame, frame.iloc[:0]) == (0, 0)


def test_frames_can_be_filtered(finished: Store) -> None:
    frame, _ = outcomes(finished)
    assert len(select(frame, model=MODELS[0])) == 12
    assert select(frame, attack="pgd").empty


def test_the_longer_of_two_overlapping_runs_counts(copy: Store) -> None:
    execute(plan_request(MODELS[:1], ["cw-linf"], "cifar10-sample", 5), copy)
    frame, _ = outcomes(copy)
    assert len(frame) == 24
    assert frame.groupby("model")["unit"].nunique().tolist() == [1, 1]


def test_global_random_state_is_unchanged(plan: Plan, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    execute(Plan(plan.units[:1]), Store(tmp_path))
    assert torch.equal(torch.rand(3), expected)


def test_two_workers_give_the_same_outcome_files(plan: Plan, finished: Store, tmp_path: Path) -> None:
    events: list[str] = []
    report = execute(plan, Store(tmp_path), lambda event: events.append(event.kind), workers=2)
    assert {unit.id for unit in report.finished} == set(plan.ids) and events.count("finished") == 2
    for unit in plan.units:
        assert (tmp_path / "units" / f"{unit.id}.parquet").read_bytes() == (finished.units / f"{unit.id}.parquet").read_bytes()


def test_a_plan_uses_its_own_units_first_and_shorter_runs_otherwise(copy: Store) -> None:
    short, long, pgd_plan = (
        plan_request(MODELS[:1], [attack], "cifar10-sample", n) for attack, n in (("cw-linf", 5), ("cw-linf", 30), ("pgd", 12))
    )
    frame, _ = outcomes(copy, long)
    assert frame["image"].nunique() == len(frame) == 12 and set(frame["model"]) == set(MODELS[:1])
    assert outcomes(copy, short)[0].empty and outcomes(copy, pgd_plan)[0].empty
    execute(short, copy)
    frame, _ = outcomes(copy, short)
    assert len(frame) == 5 and set(frame["unit"]) == set(short.ids)
    assert len(outcomes(copy, long)[0]) == 12
