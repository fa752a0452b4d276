"""Tests of engine sparse on small dense networks, which are attacked with the kernels and trained by the dense engine."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from model_zoo.errors import UsageError
from model_zoo.training.building import build_model
from model_zoo.training.engine import DenseEngine, make_engine, resolve_engine
from model_zoo.training.inner_attack import input_gradients_only
from model_zoo.training.recipe import Recipe
from model_zoo.training.sharing import Share
from model_zoo.training.trainer import train
from tests.model_zoo.training.tiny import SAMPLE, recipe

pytestmark = pytest.mark.needs_numba


def dense_recipe(family: str = "dense", **changes: Any) -> Recipe:
    data = {"dataset": "cifar10", "hold_out": 20, "images": 340}
    return recipe(family, top={"data": data}, batch=32, epochs=2, **changes)


def images(count: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("momentum", [0.1, None, 1.0])
@pytest.mark.parametrize("family", ["dense", "dense-binary"])
def test_the_attack_uses_the_statistics_of_the_previous_batch(family: str, momentum: float | None) -> None:
    from model_zoo.kernels.convolve import LANES

    chosen = dense_recipe(family)
    model = build_model(chosen).train()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = momentum
    engine: Any = make_engine("sparse", model, chosen, Share())
    engine.dense = DenseEngine(model, Share(), 32, faithful=True)  # float32
    engine._attack_lanes = LANES
    # Before the first training pass, the attack uses the statistics of the attacked batch.
    with input_gradients_only(model):
        torch.testing.assert_close(engine.attacked(images()), copy.deepcopy(model)(images()))
    for seed in range(3):
        engine.trained(images(seed=seed))
        expected = copy.deepcopy(model)
        for norm in expected.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.momentum = 1.0
        with torch.no_grad():
            expected(images(seed=seed))
        point, reference_point = images(5, seed=9).requires_grad_(True), images(5, seed=9).requires_grad_(True)
        logits, reference_logits = engine.attacked(point), expected.eval()(reference_point)
        # The running variance of PyTorch is the unbiased one.
        torch.testing.assert_close(logits, reference_logits, atol=0.05, rtol=0.02)
        (gradient,), (reference_gradient,) = (
            torch.autograd.grad(logits.sum(), point),
            torch.autograd.grad(reference_logits.sum(), reference_point),
        )
        assert F.cosine_similarity(gradient.flatten(1), reference_gradient.flatten(1)).min() > 0.98


def test_a_large_dense_network_is_attacked_by_the_dense_engine() -> None:
    from model_zoo.training.sparse_engine import SparseEngine

    chosen = dense_recipe()
    model = build_model(chosen).train()
    engine = SparseEngine(model, DenseEngine(model, Share(), chosen.optimiser.batch), attacked_below=10.0)
    engine.trained(images())
    assert engine.state() == {}
    with input_gradients_only(model):
        torch.testing.assert_close(engine.attacked(images(16)), engine.dense.attacked(images(16)))


def test_dense_families_use_engine_sparse_only_on_request() -> None:
    assert resolve_engine(dense_recipe(), "cpu") == "dense"
    assert resolve_engine(dense_recipe(), "cpu", "sparse") == "sparse"
    with pytest.raises(UsageError, match="multiples of 16"):
        resolve_engine(recipe("dense", batch=25), "cpu", "sparse")


def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    chosen, state = dense_recipe(), tmp_path / "state.pt"
    uninterrupted = train(chosen, SAMPLE.images, SAMPLE.labels, engine="sparse")

    class Stopped(Exception):
        pass

    def stop(event: object) -> None:
        if getattr(event, "done", None) == 7:
            raise Stopped

    with pytest.raises(Stopped):
        train(chosen, SAMPLE.images, SAMPLE.labels, report=stop, state=state, engine="sparse", save_every=0.0)
    assert state.is_file()
    resumed = train(chosen, SAMPLE.images, SAMPLE.labels, state=state, engine="sparse")
    assert resumed.engine == "sparse"
    for name, tensor in uninterrupted.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
