"""Tests that methods that prune real weights also prune BinaryConnect weights: signs compute, latent magnitudes rank."""

from pathlib import Path

import pytest
import torch

from model_zoo.errors import UsageError
from model_zoo.layers.masked import BinaryWeights, masked_layers
from model_zoo.packing.frozen import effective_weights
from model_zoo.packing.packed import load_packed
from model_zoo.training.building import build_model
from model_zoo.training.outcome import keep
from model_zoo.training.recipe import Recipe
from tests.model_zoo.families.runs import OPTIONS, kept_counts, sizes, tiny, train_tiny
from tests.model_zoo.training.tiny import recipe

METHODS = ("flying-bird", "flying-bird-plus", "hydra", "lwm")


def binary_recipe(method: str) -> Recipe:
    data = {"dataset": "cifar10", "hold_out": 20, "images": 270}
    top = {"options": {**OPTIONS[method], "weights": "binary"}, "data": data}
    return recipe(method, top=top, kind="adam", learning_rate=0.005, epochs=3, batch=25)


@pytest.mark.parametrize("method", METHODS)
def test_a_binary_model_is_stored_as_signs_with_the_keep_ratio_of_the_real_one(method: str, tmp_path: Path) -> None:
    chosen = binary_recipe(method)
    result = train_tiny(chosen)
    record = keep(result, chosen, tmp_path)
    keep_ratio = round(sum(kept_counts(result.model)) / sum(sizes(result.model)), 4) if method == "flying-bird-plus" else 0.2
    assert (record.family, record.weight_bits, record.keep_ratio) == ("sparse-binary", 1, keep_ratio)
    loaded = load_packed(tmp_path / record.checkpoint.file)
    assert loaded.header["weights"] == "pruned-signs"
    for layer, weight in zip(masked_layers(result.model), effective_weights(loaded.model), strict=True):
        assert float(layer.weight.detach().abs().max()) <= 1.0
        expected = torch.where(layer.weight.detach() < 0, -1.0, 1.0) * layer.mask
        assert torch.equal(torch.from_numpy(weight), expected)
    if method != "flying-bird-plus":
        # The density of FlyingBird+ follows the training curve.
        assert kept_counts(result.model) == kept_counts(train_tiny(tiny(method)).model)


def test_latent_weights_get_the_gradient_of_signs_and_scores_that_of_the_mask() -> None:
    layer = masked_layers(build_model(binary_recipe("hydra")))[2]
    assert isinstance(layer, BinaryWeights)
    layer.keep_top(torch.randn(layer.mask.shape), 30)
    slope = torch.randn(layer.mask.shape)
    (layer.effective_weight() * slope).sum().backward()
    assert layer.weight.grad is not None and torch.equal(layer.weight.grad, slope * layer.mask)
    layer.train_scores()
    with torch.no_grad():
        layer.scores.copy_(torch.randn(layer.scores.shape))
    (layer.effective_weight() * slope).sum().backward()
    assert layer.scores.grad is not None
    assert torch.equal(layer.scores.grad, slope * torch.where(layer.weight.detach() < 0, -1.0, 1.0) * layer.scores.detach().sign())


def test_unknown_kinds_of_weights_are_errors() -> None:
    with pytest.raises(UsageError, match="real, binary"):
        build_model(tiny("hydra", weights="ternary"))
