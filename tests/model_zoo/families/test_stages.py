"""Tests of HYDRA and LWM: pretraining, search for a mask, and finetuning of the kept weights."""

import math

import pytest
import torch
from torch import nn

from model_zoo.errors import UsageError
from model_zoo.layers.masked import MaskedConv2d, masked_layers
from model_zoo.layers.pruned_binary import top_mask
from model_zoo.pruning.allocation import layer_keep_counts
from model_zoo.pruning.scores import scaled
from model_zoo.pruning.stages import stage_of
from tests.model_zoo.families.runs import kept_counts, masks, sizes, tiny, train_tiny, train_with_callback, weights
from tests.model_zoo.training.tiny import recipe


def uniform_counts(model: nn.Module) -> list[int]:
    return [size - int(0.8 * size) for size in sizes(model)]


def test_scores_of_hydra_are_initialised_as_scaled_weights() -> None:
    weight = torch.randn(8, 4, 3, 3)
    scores = scaled(weight)
    assert float(scores.abs().max()) == pytest.approx(math.sqrt(6.0 / 36.0))
    assert torch.allclose(scores / weight, (scores / weight)[0, 0, 0, 0].expand_as(weight))
    assert torch.equal(top_mask(scores, 50), top_mask(weight, 50))


def test_hydra_trains_only_scores_in_the_search_and_only_weights_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    history: list[tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]] = []

    def record(model: nn.Module, step: int) -> None:
        history.append((weights(model), [layer.scores.detach().clone() for layer in masked_layers(model)], masks(model)))

    model = train_with_callback(tiny("hydra"), record, monkeypatch).model
    # Steps 1-10 are pretraining, 11-20 the search, and 21-30 finetuning.
    assert [int(mask.sum()) for mask in history[9][2]] == sizes(model)
    for step in range(10, 20):
        step_weights, scores, mask = history[step]
        assert all(torch.equal(current, reference) for current, reference in zip(step_weights, history[9][0], strict=True))
        assert [int(part.sum()) for part in mask] == uniform_counts(model)
        assert all(
            torch.equal(top_mask(score, count), part) for score, count, part in zip(scores, uniform_counts(model), mask, strict=True)
        )
        if step > 10:
            assert any(not torch.equal(current, reference) for current, reference in zip(scores, history[step - 1][1], strict=True))
    # The masks are not those of the largest weights.
    assert any(
        not torch.equal(top_mask(step_weights, int(mask.sum())), mask)
        for step_weights, mask in zip(history[9][0], history[19][2], strict=True)
    )
    for step in range(20, 30):
        assert all(torch.equal(current, reference) for current, reference in zip(history[step][1], history[19][1], strict=True))
        assert all(torch.equal(current, reference) for current, reference in zip(history[step][2], history[19][2], strict=True))
        assert all(not torch.equal(current, reference) for current, reference in zip(history[step][0], history[step - 1][0], strict=True))


def test_hydra_with_adaptive_allocation_keeps_the_allocated_counts() -> None:
    model = train_tiny(tiny("hydra", allocation_power=0.1)).model
    assert kept_counts(model) == layer_keep_counts(sizes(model), 0.2, 0.1)


def test_hydra_with_global_allocation_keeps_the_largest_scores_of_all_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    history: list[tuple[torch.Tensor, torch.Tensor]] = []

    def record(model: nn.Module, step: int) -> None:
        scores = torch.cat([layer.scores.detach().flatten() for layer in masked_layers(model)])
        history.append((scores, torch.cat([mask.flatten() for mask in masks(model)])))

    model = train_with_callback(tiny("hydra", allocation="global"), record, monkeypatch).model
    for scores, mask in history[10:]:
        assert torch.equal(mask, top_mask(scores, round(0.2 * len(scores))))
    assert kept_counts(model) != uniform_counts(model)


def test_scores_get_the_gradient_of_the_mask_for_kept_and_pruned_weights() -> None:
    layer = MaskedConv2d(3, 4, 3)
    with torch.no_grad():
        layer.scores.copy_(torch.randn(layer.scores.shape))
    layer.keep_top(layer.scores, 20)
    layer.train_scores()
    slope = torch.randn(layer.weight.shape)
    (layer.effective_weight() * slope).sum().backward()
    assert layer.scores.grad is not None and layer.weight.grad is None
    assert torch.allclose(layer.scores.grad, slope * layer.weight.detach() * layer.scores.detach().sign())


def test_lwm_keeps_the_largest_weights_of_every_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    history: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = []
    model = train_with_callback(tiny("lwm"), lambda model, step: history.append((weights(model), masks(model))), monkeypatch).model
    assert [int(mask.sum()) for mask in history[9][1]] == sizes(model)
    expected = [top_mask(layer_weights, count) for layer_weights, count in zip(history[9][0], uniform_counts(model), strict=True)]
    for _, mask in history[10:]:
        assert all(torch.equal(part, reference) for part, reference in zip(mask, expected, strict=True))
    assert kept_counts(model) == uniform_counts(model)


def test_stages_are_consecutive_and_must_leave_epochs_for_the_last() -> None:
    options = {"pretrain_epochs": 2, "search_epochs": 1}
    assert [stage_of(options, epoch, 5) for epoch in range(5)] == [0, 0, 1, 2, 2]
    with pytest.raises(UsageError, match="leave none of the 3"):
        stage_of(options, 0, 3)
    with pytest.raises(UsageError, match="in the last stage"):
        recipe("hydra", top={"options": {"keep_ratio": 0.1, **options}, "select": "hold-out"}, epochs=5)
