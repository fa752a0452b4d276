"""Tests of HARP: keep ratios of layers are learned with the scores, and together they meet the budget."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from model_zoo.families.harp import RatedConv2d
from model_zoo.layers.masked import masked_layers
from model_zoo.training.building import build, build_model
from tests.model_zoo.families.runs import kept_counts, sizes, tiny, train_tiny, train_with_callback


def layers(model: nn.Module) -> list[RatedConv2d]:
    return [layer for layer in masked_layers(model) if isinstance(layer, RatedConv2d)]


# With a weak pull the search ends above the budget, with a strong pull below it.
@pytest.mark.parametrize("gamma", [0.0, 0.1, 3.0])
def test_the_network_meets_the_budget_and_layers_differ(gamma: float) -> None:
    model = train_tiny(tiny("harp", gamma=gamma)).model
    # Every layer rounds up by less than one weight.
    assert 0 <= sum(kept_counts(model)) - 0.2 * sum(sizes(model)) < len(sizes(model))
    if gamma > 1.0:
        shares = [count / size for count, size in zip(kept_counts(model), sizes(model), strict=True)]
        assert max(shares) > 1.5 * min(shares)


def test_keep_ratios_are_learned_only_during_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    fractions: list[list[float]] = []
    train_with_callback(
        tiny("harp"), lambda model, step: fractions.append([float(layer.logit.detach()) for layer in layers(model)]), monkeypatch
    )
    assert all(current == fractions[0] for current in fractions[:10])
    assert all(current != before for before, current in pairwise(fractions[9:20]))
    assert all(current == fractions[19] for current in fractions[19:])


def test_masks_follow_the_keep_ratios_during_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def check_step(model: nn.Module, step: int) -> None:
        if 10 < step <= 20:
            for layer in layers(model):
                size = layer.mask.numel()
                assert int(layer.mask.sum()) == size - int((1.0 - layer.keep_ratio().item()) * size)

    train_with_callback(tiny("harp"), check_step, monkeypatch)


def test_the_keep_ratio_has_initial_value_minimum_and_the_summed_gradient_of_the_mask() -> None:
    model = build_model(tiny("harp", initial_keep_ratio=0.4))
    assert all(layer.keep_ratio().item() == pytest.approx(0.4) for layer in layers(model))
    layer = layers(model)[2]
    with torch.no_grad():
        layer.logit.fill_(-50.0)
    assert layer.keep_ratio().item() == pytest.approx(0.02)
    with torch.no_grad():
        layer.logit.fill_(0.3)
        layer.scores.copy_(torch.randn(layer.scores.shape))
    layer.train_scores()
    layer.logit.requires_grad_(True)
    slope = torch.randn(layer.weight.shape)
    (layer.effective_weight() * slope).sum().backward()
    share = torch.sigmoid(torch.tensor(0.3))
    mask_gradient = slope * layer.weight.detach()
    assert layer.logit.grad is not None and layer.scores.grad is not None
    assert float(layer.logit.grad) == pytest.approx(float(mask_gradient.sum() * share * (1 - share) * 0.98), rel=1e-4)
    assert torch.allclose(layer.scores.grad, mask_gradient * layer.scores.detach().sign())


def test_the_penalty_is_gamma_times_the_relative_excess() -> None:
    model, controller = build(tiny("harp", initial_keep_ratio=0.3, gamma=0.7))
    assert controller.penalty() == 0.0
    for layer in layers(model):
        layer.logit.requires_grad_(True)
    assert float(torch.as_tensor(controller.penalty()).detach()) == pytest.approx(0.7 * (0.3 / 0.2 - 1.0), rel=1e-4)
