"""Tests of the dense engine, which computes with the model itself, and of how engines are selected and stored with a run."""

from pathlib import Path

import pytest
import torch

from model_zoo.errors import UsageError
from model_zoo.layers.pruned_binary import PrunedBinaryConv2d, top_mask
from model_zoo.training.building import build_model
from model_zoo.training.engine import DenseEngine, make_engine, resolve_engine
from model_zoo.training.inner_attack import input_gradients_only
from model_zoo.training.outcome import keep
from model_zoo.training.sharing import Share
from model_zoo.training.state import read_state
from model_zoo.training.trainer import train
from tests.model_zoo.training.tiny import SAMPLE, recipe

IMAGES = SAMPLE.first(20).tensors()[0]


def engine() -> DenseEngine:
    chosen = recipe(attack={"faithful": True})
    built = make_engine("dense", build_model(chosen).train(), chosen, Share())
    assert isinstance(built, DenseEngine)
    return built


def test_only_the_trained_pass_affects_parameters_and_running_statistics() -> None:
    dense = engine()
    norm = dense.model.network.bn1  # type: ignore[union-attr]
    before = norm.running_var.clone()  # type: ignore[union-attr,operator]
    images = IMAGES.clone().requires_grad_(True)
    with input_gradients_only(dense.model):
        dense.attacked(images).sum().backward()
    assert images.grad is not None and bool((images.grad != 0).any())
    assert torch.equal(norm.running_var, before)  # type: ignore[union-attr,arg-type]
    assert all(parameter.grad is None for parameter in dense.model.parameters())
    dense.trained(IMAGES).square().sum().backward()
    assert all(parameter.grad is not None for parameter in dense.model.parameters())
    assert not torch.equal(norm.running_var, before)  # type: ignore[union-attr,arg-type]


def test_the_evaluated_pass_equals_evaluation_mode_and_does_not_change_the_mode() -> None:
    dense = engine()
    for _ in range(20):
        dense.trained(IMAGES)
    state = {name: tensor.clone() for name, tensor in dense.model.state_dict().items()}
    images = IMAGES.clone().requires_grad_(True)
    logits = dense.evaluated(images)
    assert dense.model.training and logits.dtype == torch.float32
    logits.sum().backward()
    assert images.grad is not None and bool((images.grad != 0).any())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in dense.model.parameters())
    assert all(torch.equal(dense.model.state_dict()[name], tensor) for name, tensor in state.items())
    # The logits of an image do not depend on its batch; in training mode they would.
    assert torch.allclose(dense.evaluated(IMAGES[:1]), logits[:1], atol=1e-4)
    assert torch.equal(dense.model.eval()(IMAGES), logits)


def test_refresh_updates_masks() -> None:
    dense = engine()
    layers = [layer for layer in dense.model.modules() if isinstance(layer, PrunedBinaryConv2d)]
    with torch.no_grad():
        for layer in layers:
            layer.scores.copy_(torch.randn(layer.scores.shape))
    assert not all(torch.equal(layer.mask, top_mask(layer.scores, layer.kept)) for layer in layers)
    dense.refresh()
    assert all(torch.equal(layer.mask, top_mask(layer.scores, layer.kept)) for layer in layers)


def test_the_dense_engine_has_no_state() -> None:
    assert engine().state() == {}
    engine().restore({})
    with pytest.raises(ValueError, match="plan"):
        engine().restore({"plan": torch.zeros(1)})


def test_engines_are_resolved_by_name() -> None:
    assert resolve_engine(recipe(), "cpu") == resolve_engine(recipe(), "cuda", "dense") == "dense"
    with pytest.raises(UsageError, match="sparse"):
        resolve_engine(recipe(), "cpu", "sparse")
    with pytest.raises(UsageError, match="auto, dense"):
        resolve_engine(recipe(), "cpu", "quick")
    with pytest.raises(UsageError, match="sparse"):
        train(recipe(), SAMPLE.images, SAMPLE.labels, engine="sparse")


def test_the_engine_is_stored_compared_and_recorded(tmp_path: Path) -> None:
    chosen, path = recipe(epochs=1), tmp_path / "tiny.state.pt"
    result = train(chosen, SAMPLE.images, SAMPLE.labels, state=path)
    state = read_state(path)
    assert result.engine == state["engine"] == "dense"
    record = keep(result, chosen, tmp_path)
    assert record.training is not None and record.training.engine == "dense"
    assert 'engine = "dense"' in (tmp_path / "tiny.toml").read_text()
    torch.save({**state, "engine": "sparse"}, path)
    with pytest.raises(UsageError, match="another engine"):
        train(chosen, SAMPLE.images, SAMPLE.labels, state=path)
