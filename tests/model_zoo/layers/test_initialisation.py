"""Tests of the initialisation of frozen weights and scores by recipe options."""

import math
from typing import Any

import pytest
import torch

from model_zoo.errors import UsageError
from model_zoo.families import get_family
from model_zoo.layers.initialisation import WEIGHT_INITS, draw_weights
from model_zoo.layers.pruned_binary import PrunedBinaryConv2d


def layers(**options: Any) -> list[PrunedBinaryConv2d]:
    family = get_family("pruned-binary")
    parsed = family.options({"keep_ratio": 0.1, "allocation_power": 1.0, **options})
    torch.manual_seed(0)
    make = family.convolution(parsed)
    network = torch.nn.Sequential(make(8, 32, 3, padding=1), make(32, 64, 3, stride=2), make(64, 10, 1))
    family.prepare(network, parsed)
    return [layer for layer in network if isinstance(layer, PrunedBinaryConv2d)]


@pytest.mark.parametrize("kind", WEIGHT_INITS)
def test_effective_weights_are_the_initial_ones_times_the_mask(kind: str) -> None:
    for layer in layers(weight_init=kind):
        weight = layer.effective_weight().detach()
        assert int((weight != 0).sum()) == layer.kept
        assert torch.equal(torch.sign(weight), layer.signs * layer.mask)


@pytest.mark.parametrize(("kind", "ratio"), [("signed-constant", 1.0), ("signed-constant-scaled", 0.1)])
def test_signed_constants_have_one_magnitude_per_layer(kind: str, ratio: float) -> None:
    for layer in layers(weight_init=kind):
        kept = layer.kept / layer.scores.numel() if ratio < 1 else 1.0
        expected = math.sqrt(2.0 / (layer.scores[0].numel() * kept))
        magnitudes = layer.effective_weight().detach().abs()
        assert torch.allclose(magnitudes[magnitudes > 0], torch.tensor(expected))


def test_signed_constants_have_the_signs_of_the_binary_network() -> None:
    for first, second in zip(layers(), layers(weight_init="signed-constant"), strict=True):
        assert torch.equal(first.signs, second.signs) and torch.equal(first.scores, second.scores)


def test_initial_magnitudes_have_the_expected_spread() -> None:
    torch.manual_seed(0)
    normal, uniform = draw_weights((64, 64, 3, 3), "kaiming-normal"), draw_weights((64, 64, 3, 3), "uniform")
    assert float(normal.std()) == pytest.approx(math.sqrt(2 / 576), rel=0.02)
    assert float(uniform.abs().max()) <= 1.0 and float(uniform.std()) == pytest.approx(1 / math.sqrt(3), rel=0.02)
    with pytest.raises(UsageError, match="xavier"):
        draw_weights((1, 1, 1, 1), "xavier")


@pytest.mark.parametrize(("fans", "scaled"), [("none", ()), ("all", (0, 1, 2)), ("except-last", (0, 1)), ("only-last", (2,))])
def test_scores_are_bounded_by_scale_and_fan(fans: str, scaled: tuple[int, ...]) -> None:
    for position, layer in enumerate(layers(score_fan=fans, score_scale=0.5)):
        bound = 0.5 / math.sqrt(layer.scores[0].numel()) if position in scaled else 0.5
        assert 0.9 * bound < float(layer.scores.abs().max()) <= bound
        assert int(layer.mask.sum()) == layer.kept


def test_the_gradient_of_scores_is_multiplied_by_the_initial_weights() -> None:
    layer = layers(weight_init="uniform")[0]
    images = torch.rand(2, 8, 8, 8)
    layer(images).square().sum().backward()
    weight = layer.effective_weight().detach().requires_grad_(True)
    torch.nn.functional.conv2d(images, weight, None, 1, 1).square().sum().backward()
    assert weight.grad is not None and layer.scores.grad is not None
    assert torch.allclose(layer.scores.grad, weight.grad * layer.weights * torch.sign(layer.scores.detach()), rtol=1e-4, atol=1e-5)
