"""Tests of the README's claims about shipped models and committed results."""

from fractions import Fraction
from pathlib import Path

import pandas as pd
import pytest
import torch
from pyautoattack import AutoAttack

from harness import datasets
from harness.attacks.packages.autoattack import package_seed
from harness.randomness import isolated
from harness.reporting.frames import summary
from harness.runner.plan import Plan, plan_suite
from harness.runner.results import outcomes
from harness.runner.store import Store
from harness.runner.suite import get_suite
from model_zoo.catalogue import catalogue
from model_zoo.loading import load_model

COMMITTED = Path(__file__).parents[2] / "results"


def committed(suite: str) -> tuple[Plan, pd.DataFrame]:
    plan = plan_suite(get_suite(suite))
    frame, damaged = outcomes(Store(COMMITTED), plan)
    assert not damaged
    return plan, frame


def test_committed_results_cover_the_quick_suite() -> None:
    plan, frame = committed("quick")
    assert len(frame) == sum(len(unit.block) for unit in plan.units)
    assert set(frame["unit"]) == set(plan.ids)


def test_robust_accuracy_decreases_with_the_radius_to_zero_at_64() -> None:
    plan, frame = committed("epsilon")
    models = catalogue({unit.record.id: unit.model for unit in plan.units})
    table = summary(frame, models, pd.DataFrame(plan.expected()))
    table["epsilon"] = [Fraction(radius) for radius in table["radius"]]
    assert len(table) == 6 * len(models)
    for _, group in table.groupby("model"):
        worst = group.sort_values("epsilon")["worst"].tolist()
        assert worst == sorted(worst, reverse=True)
        assert group["clean"].iloc[0] >= worst[0]
        assert worst[-1] <= 0.02 or group["near_constant"].all()


@pytest.mark.slow
@pytest.mark.parametrize("model", sorted(get_suite("quick").models))
def test_stored_autoattack_outcomes_equal_those_of_the_package(model: str) -> None:
    plan, frame = committed("quick")
    (unit,) = [unit for unit in plan.units if unit.model == model and unit.attack.name == "autoattack"]
    images, labels = datasets.load("cifar10-sample").first(len(unit.block)).tensors()
    network = load_model(model)
    threads = torch.get_num_threads()
    torch.set_num_threads(Store(COMMITTED).read(unit.id).manifest.environment["threads"])
    try:
        with isolated(0):
            package = AutoAttack(network, eps=unit.threat.epsilon, seed=package_seed(unit.seed), version="standard")
            _, predictions = package.run_standard_evaluation(images, labels, batch_size=250)
    finally:
        torch.set_num_threads(threads)
    stored = frame[(frame["model"] == model) & (frame["attack"] == "autoattack")].sort_values("image")["robust"]
    assert (predictions == labels).tolist() == stored.tolist()
