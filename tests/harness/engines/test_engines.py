"""Tests that engines agree with the models they replace, and that an engine that disagrees is rejected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from harness import attacks, engines
from harness.cli.planned import ENGINES
from harness.engines.equivalence import Bounds, compare
from harness.runner.execute import execute
from harness.runner.plan import plan_request, plan_suite
from harness.runner.store import Store
from harness.runner.suite import get_suite
from harness.runner.work import prepared
from model_zoo import registry
from model_zoo.errors import UnknownNameError
from model_zoo.kernels.graph import UnsuitedError, lower
from model_zoo.layers.activations import SignSTE
from model_zoo.loading import load_model
from tests.harness.engines.conftest import network

MODEL = "cifar10-rn8w32-pruned-binary-k05-p01"
EXACT = ["folded", pytest.param("sparse", marks=pytest.mark.needs_numba)]
each_exact_engine = pytest.mark.parametrize("engine", EXACT)
each_engine = pytest.mark.parametrize("engine", [*EXACT, "bf16"])


def run(model, images):
    point = images.clone().requires_grad_(True)
    logits = model(point)
    (gradient,) = torch.autograd.grad((logits * torch.arange(1.0, 11.0)).sum(), point)
    return logits.detach(), gradient


@each_exact_engine
@pytest.mark.parametrize(
    "fields", [{}, {"last_batch_norm": "none"}, {"stem_stride": 2}, {"name": "cifar-resnet50", "width": 8, "keep_ratio": 0.7}]
)
@pytest.mark.parametrize("affine", [True, False])
def test_a_network_with_dead_channels_is_computed_exactly(images, engine, fields, affine):
    model = network(affine=affine, **fields)
    logits, gradient = run(model.double(), images.double()[:5])
    assert gradient.any()
    built = engines.build(model.float(), engine)
    outputs = run(built, images[:5])
    assert float((outputs[0] - logits).abs().max() / logits.abs().max()) < 1e-5
    assert float(((outputs[1] - gradient).abs() / gradient.abs().amax()).flatten(1).median()) < 1e-5


def test_dead_channels_are_removed():
    from harness.engines.folded import narrowed

    graph = lower(network())
    inner = graph.steps[1]
    assert inner.varying is not None and not inner.varying.all()
    assert any(getattr(step, "ones", None) is not None for step in graph.steps)
    assert narrowed(graph)[1].weight.shape[0] < inner.weight.shape[0]


@each_exact_engine
def test_logits_and_gradients_of_shipped_models_are_equal(images, engine):
    for name in registry.model_ids():
        if name.startswith("cifar10"):
            model = load_model(name)
            comparison = compare(model, engines.build(model, engine), images)
            assert comparison.refusal is None, f"{name}: {comparison}"


@pytest.mark.needs_numba
def test_results_are_bit_identical_for_every_batch_size_and_number_of_threads(images):
    model = engines.build(load_model(MODEL), "sparse")
    logits, gradient = run(model, images)
    for count in (1, 2, 15, 16, 17, 33):
        outputs = run(model, images[:count])
        assert torch.equal(outputs[0], logits[:count])
        assert torch.equal(outputs[1], gradient[:count])
    torch.set_num_threads(2)
    try:
        assert all(torch.equal(actual, expected) for actual, expected in zip(run(model, images), (logits, gradient), strict=True))
    finally:
        torch.set_num_threads(1)
    assert model(images[:0]).shape == (0, 10)
    with torch.no_grad():
        assert torch.equal(model(images), logits)


@pytest.mark.needs_numba
def test_gradients_of_single_logits_from_one_forward_pass(images):
    stored, model = load_model(MODEL), engines.build(load_model(MODEL), "sparse")
    for target in (0, 7):
        inputs, stored_inputs = (images[:3].clone().requires_grad_(True) for _ in range(2))
        logits = model(inputs)
        torch.autograd.grad(logits[:, 3].sum(), inputs, retain_graph=True)
        (gradient,) = torch.autograd.grad(logits[:, target].sum(), inputs)
        (expected,) = torch.autograd.grad(stored(stored_inputs)[:, target].sum(), stored_inputs)
        torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-3)


@each_engine
def test_an_engine_built_from_a_tampered_model_is_rejected(images, engine):
    model, tampered = load_model(MODEL), load_model(MODEL)
    weight = tampered.network.layer2[0].conv1.weight
    index = tuple(np.argwhere(weight.numpy() != 0)[40])
    with torch.no_grad():
        weight[index] = -weight[index]
    prepared = engines.prepare(model, engines.build(tampered, engine), engine, images)
    assert prepared.engine == "dense"
    assert prepared.model is model
    assert f"refused: {'in float32 ' if engine == 'bf16' else ''}logits differ" in prepared.finding
    assert engines.prepare(model, engines.build(model, engine), engine, images).engine == engine


def test_shipped_models_can_run_in_bfloat16(images):
    for name in registry.model_ids():
        if name.startswith("cifar10"):
            model = load_model(name)
            result = engines.prepare(model, engines.build(model, "bf16"), "bf16", images)
            assert result.engine == "bf16", f"{name}: {result.finding}"


def test_bf16_predicts_the_float32_class_near_the_decision_boundary(images):
    model, engine = load_model(MODEL), engines.build(load_model(MODEL), "bf16")
    with torch.no_grad():
        # Bisect between neighbouring images to points at which the prediction changes.
        near, far = images, images.roll(1, 0)
        differ = model(near).argmax(1) != model(far).argmax(1)
        near, far = near[differ], far[differ]
        near_class = model(near).argmax(1)
        for _ in range(12):
            middle = (near + far) / 2
            is_near = (model(middle).argmax(1) == near_class)[:, None, None, None]
            near, far = torch.where(is_near, middle, near), torch.where(is_near, far, middle)
        points = torch.cat([near, far])
        expected, rounded = model(points), engine.get_submodule("rounded")(points)
        assert (rounded.argmax(1) != expected.argmax(1)).any()
        assert torch.equal(engine(points).argmax(1), expected.argmax(1))
        torch.testing.assert_close(engine(points), expected, atol=1e-4, rtol=1e-4)
    # Gradients are those of the bfloat16 model.
    gradient, rounded = run(engine, points)[1], run(engine.get_submodule("rounded"), points)[1]
    assert gradient.any() and torch.equal(gradient, rounded)


def test_a_nan_difference_is_rejected(images):
    model = load_model(MODEL)

    class NaN(torch.nn.Module):
        def forward(self, batch):
            return model(batch) * torch.nan

    assert compare(model, NaN(), images[:2]).refusal is not None


def test_foreign_modules_are_rejected():
    with pytest.raises(UnsuitedError, match="Linear"):
        lower(torch.nn.Linear(3, 3).eval())
    changed = network()
    changed.network.layer1[0].conv1 = torch.nn.Sequential(changed.network.layer1[0].conv1)
    with pytest.raises(UnsuitedError, match="Sequential"):
        engines.build(changed, "folded")


@pytest.mark.parametrize("engine", ["folded", "bf16", pytest.param("sparse", marks=pytest.mark.needs_numba)])
def test_activations_other_than_relu_are_rejected(engine):
    with pytest.raises(UnsuitedError, match="SignSTE"):
        engines.build(network(activation="sign-ste"), engine)


def test_another_activation_in_a_single_block_is_rejected():
    changed = network("cifar-resnet50")
    changed.network.layer2[1].activation = SignSTE()
    with pytest.raises(UnsuitedError, match="SignSTE"):
        lower(changed)


@pytest.mark.needs_numba
def test_a_stem_unsupported_by_the_sparse_engine_runs_on_the_folded_engine():
    model = network("imagenet-resnet18", normalisation="imagenet")
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UnsuitedError, match=r"maximum pooling|pads by 3"):
        engines.build(model, "sparse")(images)
    assert compare(model, engines.build(model, "folded"), images).refusal is None


def test_the_engine_depends_on_record_and_attack_only():
    record, spec = registry.get_record(MODEL), attacks.get("autoattack")
    assert [engines.resolve(name, record, spec) for name in engines.NAMES] == ["dense", "dense", "folded", "sparse", "bf16"]
    steps = record.model_copy(update={"backward": "ste"})
    imagenet = record.model_copy(update={"architecture": {**record.architecture, "name": "imagenet-resnet18"}})
    assert engines.resolve("sparse", steps, spec) == "dense"
    assert engines.resolve("sparse", imagenet, spec) == "folded"
    with pytest.raises(UnknownNameError, match="sparse"):
        engines.resolve("spars", record, spec)
    assert ENGINES == engines.NAMES


def test_stored_units_keep_their_identity_and_each_engine_has_a_different_one():
    stored_ids = set(Store(Path(__file__).parents[3] / "results").ids())
    plan = plan_suite(get_suite("quick"))
    assert set(plan.ids) <= stored_ids
    ids = {engine: plan_request([MODEL], ["pgd"], "cifar10-sample", 4, engine=engine).ids for engine in engines.NAMES}
    assert ids["auto"] == ids["dense"]
    assert len({ids[engine][0] for engine in ("dense", "folded", "sparse")}) == 3


@each_engine
def test_a_unit_runs_with_its_engine_and_records_it(tmp_path, engine, monkeypatch):
    plan = plan_request([MODEL], ["pgd-20"], "cifar10-sample", 8, engine=engine)
    store = Store(tmp_path)
    assert not execute(plan, store).failed
    manifest = store.manifest(plan.ids[0])
    assert manifest.identity["engine"] == manifest.engine.used == engine
    dense = plan_request([MODEL], ["pgd-20"], "cifar10-sample", 8)
    execute(dense, store)
    assert store.manifest(dense.ids[0]).engine is None
    monkeypatch.setattr("harness.engines.equivalence.FLOAT32", Bounds(0.0, 1.0, 1.0))
    execute(plan, store, existing="always")
    assert store.manifest(plan.ids[0]).engine.used == "dense"
    assert "refused" in store.manifest(plan.ids[0]).engine.finding


def test_a_model_without_an_equivalent_engine_runs_unchanged(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from torch import nn\n\n\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))\n")
    (unit,) = plan_request([f"{file}:make"], ["fast-autoattack"], "cifar10-sample", 4).units
    model = load_model(unit.model)
    result = prepared(unit.model, unit.engine, model, unit.block)
    assert unit.engine != "dense" and result.model is model and result.engine == "dense" and "refused" in result.finding
