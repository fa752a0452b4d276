"""Tests of BCS: the total is constant while layer densities change, signs never change, and the noise is small."""

from pathlib import Path

import pytest
import torch
from torch import nn

from model_zoo.families.bcs import NEW, SignedConv2d
from model_zoo.layers.masked import masked_layers
from model_zoo.packing.packed import load_packed
from model_zoo.training.building import build, build_model
from model_zoo.training.outcome import keep
from model_zoo.training.recipe import Recipe, recipe_path
from tests.model_zoo.families.runs import kept_counts, sizes, tiny, train_with_callback


def test_the_total_is_constant_while_layer_densities_change(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny("bcs")
    counts: list[list[int]] = []
    model = train_with_callback(recipe, lambda model, step: counts.append(kept_counts(model)), monkeypatch).model
    assert {sum(count) for count in counts} == {round(0.2 * sum(sizes(model)))}
    assert all(len({count[layer] for count in counts}) > 3 for layer in range(len(sizes(model))) if sizes(model)[layer] > 1000)


def test_signs_are_fixed_and_magnitudes_of_connections_are_positive(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny("bcs")
    initial_signs = [layer.signs.clone() for layer in build_model(recipe).modules() if isinstance(layer, SignedConv2d)]

    def check_step(model: nn.Module, step: int) -> None:
        for layer, signs in zip(masked_layers(model), initial_signs, strict=True):
            assert isinstance(layer, SignedConv2d) and torch.equal(layer.signs, signs)
            assert torch.equal(layer.weight > 0, layer.mask > 0) and not bool((layer.weight < 0).any())
            assert torch.equal(layer.effective_weight(), signs * layer.weight)

    train_with_callback(recipe, check_step, monkeypatch)


def test_negative_magnitudes_disconnect_and_new_connections_start_near_zero() -> None:
    model, connectivity = build(tiny("bcs", noise=0.0))
    layer = masked_layers(model)[4]
    is_lost = (layer.mask > 0) & (torch.rand(layer.mask.shape, generator=torch.Generator().manual_seed(0)) < 0.5)
    with torch.no_grad():
        layer.weight[is_lost] = -0.01
    before = [layer.mask.clone() for layer in masked_layers(model)]
    connectivity.after_step(0.5)
    assert sum(kept_counts(model)) == sum(int(mask.sum()) for mask in before)
    added = [(current.mask > 0) & (mask == 0) for current, mask in zip(masked_layers(model), before, strict=True)]
    # New connections can be anywhere in the network, more often in larger layers.
    assert sum(bool(is_added.any()) for is_added in added) > 5
    assert all(bool((current.weight[is_added] == NEW).all()) for current, is_added in zip(masked_layers(model), added, strict=True))


def test_binary_weights_are_the_signs_of_the_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny("bcs", weights="binary")
    counts: list[list[int]] = []
    result = train_with_callback(recipe, lambda model, step: counts.append(kept_counts(model)), monkeypatch)
    assert {sum(count) for count in counts} == {round(0.2 * sum(sizes(result.model)))} and counts[0] != counts[-1]
    layers = [layer for layer in result.model.modules() if isinstance(layer, SignedConv2d)]
    assert all(torch.equal(layer.effective_weight(), layer.signs * layer.mask) for layer in layers)
    slope = torch.randn(layers[2].mask.shape)
    layers[2].weight.grad = None
    (layers[2].effective_weight() * slope).sum().backward()
    assert layers[2].weight.grad is not None
    assert torch.equal(layers[2].weight.grad, slope * layers[2].signs * layers[2].mask)
    record = keep(result, recipe, tmp_path)
    assert (record.family, record.weight_bits, record.keep_ratio) == ("sparse-binary", 1, 0.2)
    assert load_packed(tmp_path / record.checkpoint.file).header["weights"] == "pruned-signs"


def test_the_noise_is_a_millionth_of_the_learning_rate() -> None:
    recipe = Recipe.load(recipe_path("cifar10-rn8w32-bcs-k10"))
    assert recipe.options["noise"] == pytest.approx(1e-6 * recipe.optimiser.learning_rate)


@pytest.mark.parametrize(("progress", "share"), [(0.0, 1.0), (0.5, 0.5), (1.0, 0.0)])
def test_the_noise_decreases_with_the_learning_rate(progress: float, share: float) -> None:
    model, connectivity = build(tiny("bcs", noise=1e-3))
    layer = max(masked_layers(model), key=lambda layer: layer.mask.numel())
    with torch.no_grad():
        layer.weight.copy_(layer.mask)
    connectivity.after_step(progress)
    noise = layer.weight.detach()[layer.weight.detach() > 0.5] - 1.0
    assert float(noise.std()) == pytest.approx(1e-3 * share, rel=0.1, abs=1e-9)
