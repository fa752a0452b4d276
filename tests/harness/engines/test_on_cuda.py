"""Tests on a GPU: engines agree with the stored model, and units have nearly the same outcomes as on the CPU."""

from __future__ import annotations

import pytest

from harness import engines
from harness.evaluation.unit import unit_threads
from harness.runner.execute import execute
from harness.runner.plan import plan_request
from harness.runner.store import Store
from model_zoo.loading import load_model

pytestmark = pytest.mark.needs_cuda
MODELS = ["cifar10-rn8w28-dense", "cifar10-rn8w32-dense-binary", "cifar10-rn8w32-pruned-binary-k01-p01"]
DEVICE = "cuda"


@pytest.mark.parametrize("engine", ["folded", "bf16"])
@pytest.mark.parametrize("name", MODELS)
def test_an_engine_agrees_with_the_stored_model(images, name, engine):
    model = load_model(name).to(DEVICE)
    with unit_threads():
        result = engines.prepare(model, engines.build(model, engine), engine, images.to(DEVICE))
    assert result.engine == engine, result.finding


def test_outcomes_agree_with_the_cpu(tmp_path):
    plan = plan_request(MODELS[:1], ["pgd-20", "fast-autoattack"], "cifar10-sample", 16, engine="bf16")
    cpu_store, gpu_store = Store(tmp_path / "cpu"), Store(tmp_path / "gpu")
    for store, device in ((cpu_store, "cpu"), (gpu_store, DEVICE)):
        assert not execute(plan, store, device=device).failed
    for unit in plan.units:
        assert gpu_store.manifest(unit.id).engine.used == "bf16"
        cpu_robust, gpu_robust = (store.read(unit.id).table.to_pandas()["robust"] for store in (cpu_store, gpu_store))
        # Sums are computed in a different order, so one image at the decision boundary may have another outcome.
        assert (cpu_robust != gpu_robust).sum() <= 1
        assert cpu_robust.any() and not cpu_robust.all()
