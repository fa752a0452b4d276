"""Tests of units under corruptions: planned, stored, resumed, merged, packed and verified like units under attacks."""

from pathlib import Path

import pytest

from harness.runner.comparing import plan_comparison
from harness.runner.cost import estimate
from harness.runner.execute import execute
from harness.runner.merge import merge
from harness.runner.packing import pack
from harness.runner.plan import Plan, plan_suite
from harness.runner.results import find
from harness.runner.select import Filter, selected
from harness.runner.store import Store
from harness.runner.suite import Suite, get_suite
from harness.runner.verify import verify
from model_zoo.errors import UsageError

MODELS = ["cifar10-rn8s29-dense", "cifar10-rn8w32-pruned-binary-k05-p01"]


def suite(**changes: object) -> Suite:
    evaluation = {"dataset": "cifar10-sample", "corruptions": ["fog", "pixelate"], "severities": [1, 4], "n": 4, **changes}
    return Suite.model_validate({"name": "test", "title": "test", "models": MODELS, "evaluation": [evaluation]})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("store"))
    assert not execute(PLAN, store, workers=1).failed
    return store


PLAN = plan_suite(suite())


def test_a_unit_is_one_model_one_block_one_corruption_and_one_severity() -> None:
    units = PLAN.units[:4]
    assert [(unit.attack.name, str(unit.threat)) for unit in units] == [
        ("fog", "corruptions 1"),
        ("fog", "corruptions 4"),
        ("pixelate", "corruptions 1"),
        ("pixelate", "corruptions 4"),
    ]
    assert len(set(PLAN.ids)) == 8 and {unit.engine for unit in PLAN.units} == {"dense"}
    assert units[1].identity["threat"] == {"norm": "corruptions", "radius": "4"}
    assert units[1].identity["attack"]["parameters"] == {"constants": [1, 2]}
    assert units[1].labels["radius"] == "4"


def test_the_shipped_suite_has_75_units_per_model() -> None:
    units = plan_suite(get_suite("corruptions").model_copy(update={"models": MODELS})).units
    assert len(units) == 2 * 75 and {len(unit.block) for unit in units} == {250}


@pytest.mark.parametrize("change", [{"corruptions": []}, {"severities": [0]}, {"severities": [6]}])
def test_a_part_without_work_or_with_another_severity_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"neither attacks nor corruptions|greater than or equal to 1|less than or equal to 5"):
        suite(**change)


def test_outcomes_are_stored_and_not_computed_again(finished: Store) -> None:
    usable = find(finished.read_all(), PLAN)
    assert len(usable.outcomes) == 8 * 4 and set(usable.outcomes["radius"]) == {"1", "4"}
    assert set(usable.outcomes["norm"]) == {"corruptions"}
    again = execute(PLAN, finished, workers=1)
    assert len(again.stored) == 8 and not again.finished


def test_an_interrupted_run_continues(finished: Store, tmp_path: Path) -> None:
    store = Store(tmp_path)
    execute(Plan(PLAN.units[:3]), store, workers=1)
    report = execute(PLAN, store, workers=1)
    assert len(report.stored) == 3 and len(report.finished) == 5
    assert all(store.read(unit).table.equals(finished.read(unit).table) for unit in PLAN.ids)


def test_stores_are_merged_packed_and_verified(finished: Store, tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert len(merge(store, finished).copied) == 8
    assert verify(store).units == 8 and not verify(store).problems
    pack(store)
    packed = Store(tmp_path)
    assert not list(packed.units.glob("*.parquet")) and verify(packed).units == 8 and not verify(packed).problems
    assert len(merge(packed, finished).already_stored) == 8


def test_units_are_selected_by_corruption_and_severity(finished: Store) -> None:
    manifests = selected(finished, Filter(attacks=("fog",), radii=("4",)))
    assert len(manifests) == 2 and {manifest.labels.radius for manifest in manifests} == {"4"}


def test_costs_are_estimated_with_one_pilot_per_model(tmp_path: Path) -> None:
    pilots: list[str] = []
    estimates = estimate(PLAN.units, Store(tmp_path), pilots.append)
    assert pilots == MODELS and all(item.seconds > 0 and item.units == 4 for item in estimates)


def test_models_are_not_compared_by_corruptions() -> None:
    with pytest.raises(UsageError, match="has no attacks to compare models by"):
        plan_comparison(MODELS[0], [MODELS[1]], suite())
