"""Tests of RST and biprop: weights never change, scores determine the mask, and kept weights have one magnitude per layer."""

import math

import pytest
import torch
from torch import nn

from model_zoo.families.biprop import BipropConv2d
from model_zoo.layers.pruned_binary import PrunedBinaryConv2d
from model_zoo.training.building import build_model
from tests.model_zoo.families.runs import tiny, train_with_callback


def layers(model: nn.Module) -> list[PrunedBinaryConv2d]:
    return [layer for layer in model.modules() if isinstance(layer, PrunedBinaryConv2d)]


@pytest.mark.parametrize("family", ["rst", "biprop"])
def test_weights_never_change_and_masks_do(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny(family)
    initial = build_model(recipe)
    result = train_with_callback(recipe, lambda model, step: None, monkeypatch)
    assert any(not torch.equal(before.mask, after.mask) for before, after in zip(layers(initial), layers(result.model), strict=True))
    for before, after in zip(layers(initial), layers(result.model), strict=True):
        assert torch.equal(before.signs, after.signs)
        assert before.magnitude is not None and after.magnitude is not None and torch.equal(before.magnitude, after.magnitude)
        size = before.mask.numel()
        # The keep ratio is the same in every layer, up to rounding, which is carried over between layers.
        assert int(after.mask.sum()) == pytest.approx(0.2 * size, abs=2)


def test_rst_uses_signed_kaiming_constants_and_kaiming_uniform_scores() -> None:
    for layer in layers(build_model(tiny("rst"))):
        fan = layer.scores[0].numel()
        assert layer.effective_weight().detach().abs().unique().tolist() == pytest.approx([0.0, math.sqrt(2.0 / fan)])
        assert float(layer.scores.detach().abs().max()) <= 1.0 / math.sqrt(fan)
        assert float(layer.scores.detach().std()) == pytest.approx(1.0 / math.sqrt(3.0 * fan), rel=0.2)


def test_biprop_uses_the_mean_magnitude_of_kept_weights() -> None:
    for layer in layers(build_model(tiny("biprop"))):
        assert isinstance(layer, BipropConv2d) and layer.magnitude is not None
        alpha = float(layer.magnitude[layer.mask > 0].mean())
        assert torch.allclose(layer.effective_weight(), alpha * layer.signs * layer.mask)
        assert alpha != pytest.approx(float(layer.magnitude.mean()), rel=1e-3)


def test_scores_of_biprop_get_the_gradient_times_the_real_weight() -> None:
    layer = layers(build_model(tiny("biprop")))[3]
    assert layer.magnitude is not None
    slope = torch.randn(layer.scores.shape)
    (layer.effective_weight() * slope).sum().backward()
    assert layer.scores.grad is not None
    assert torch.allclose(layer.scores.grad, slope * layer.signs * layer.magnitude * layer.scores.detach().sign())
