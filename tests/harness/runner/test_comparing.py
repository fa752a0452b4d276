"""Tests of the plan of a comparison: which parts of a suite apply to which data."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from harness import datasets
from harness.datasets.base import Source
from harness.plugins import DATASETS
from harness.runner.comparing import plan_comparison
from harness.runner.suite import Suite, get_suite

DENSE, PRUNED = "cifar10-rn8s29-dense", "cifar10-rn8w32-pruned-binary-k05-p01"
MINE = "cifar10-mine"


@pytest.fixture(autouse=True)
def second_cifar10_data_set() -> Iterator[None]:
    info = replace(datasets.describe("cifar10-sample"), name=MINE)
    images = replace(datasets.load("cifar10-sample"), name=MINE)
    with DATASETS.temporarily(MINE, Source(info, lambda folder, n, download: images)):
        yield


def planned_units(suite: Suite, dataset: str) -> set[tuple[str, str, str]]:
    units = plan_comparison(DENSE, [PRUNED], suite, dataset, n=2).units
    assert {unit.model for unit in units} == {DENSE, PRUNED} and {len(unit.block) for unit in units} == {2}
    return {(unit.block.name, unit.attack.name, str(unit.threat)) for unit in units}


def test_other_data_of_the_family_get_the_attacks_and_threat_models_of_the_suite() -> None:
    for name in ("smoke", "epsilon"):
        suite = get_suite(name)
        assert planned_units(suite, MINE) == {(MINE, attack, threat) for _, attack, threat in planned_units(suite, "cifar10-sample")}
    assert len(planned_units(get_suite("epsilon"), MINE)) == 12


def test_an_entry_for_the_data_set_itself_takes_precedence() -> None:
    parts = [{"dataset": "cifar10-sample", "attacks": ["pgd"]}, {"dataset": MINE, "attacks": ["cw-linf"]}]
    suite = Suite.model_validate({"name": "test", "title": "test", "models": "all", "evaluation": parts})
    assert planned_units(suite, MINE) == {(MINE, "cw-linf", "Linf 8/255")}
    reversed_ = suite.model_copy(update={"evaluation": suite.evaluation[::-1]})
    assert planned_units(reversed_, "cifar10-sample") == {("cifar10-sample", "pgd", "Linf 8/255")}
