"""Tests of Robust Bird: clean training until the global mask of the largest weights settles, then pruning and adversarial training."""

from typing import Any

import pytest
import torch
from torch import nn

from model_zoo.families.robust_bird import HISTORY, EarlyBird
from model_zoo.layers.masked import masked_layers
from model_zoo.training import trainer
from model_zoo.training.building import build
from tests.model_zoo.families.runs import kept_counts, sizes, tiny, train_tiny, train_with_callback


def build_robust_bird(**options: Any) -> tuple[nn.Module, EarlyBird]:
    model, controller = build(tiny("robust-bird", **options))
    assert isinstance(controller, EarlyBird)
    return model, controller


def change_mask(model: nn.Module, share: float) -> None:
    """Change the global mask in `share` of all weights: set half of these, kept weights, to zero, and enlarge the other half."""
    flat = torch.cat([layer.weight.detach().flatten() for layer in masked_layers(model)])
    order = flat.abs().argsort(descending=True)
    count = round(share * len(flat) / 2)
    n_kept = round(0.2 * len(flat))
    flat[order[n_kept - count : n_kept]] = 0.0
    flat[order[n_kept : n_kept + count]] = 10.0
    for layer, part in zip(masked_layers(model), flat.split(sizes(model)), strict=True):
        with torch.no_grad():
            layer.weight.copy_(part.view(layer.weight.shape))


@pytest.mark.parametrize(("share", "is_settled"), [(0.04, True), (0.06, False)])
def test_the_mask_distance_is_the_share_of_differing_weights(share: float, is_settled: bool) -> None:
    model, watcher = build_robust_bird(tolerance=0.05)
    for _ in range(HISTORY):
        watcher.compare()
    assert not bool(watcher.found)
    change_mask(model, share)
    watcher.compare()
    assert bool(watcher.found) == is_settled


def test_a_mask_is_compared_with_the_four_before() -> None:
    _, watcher = build_robust_bird()
    states = []
    for _ in range(6):
        watcher.compare()
        states.append(bool(watcher.found))
    assert states == [False, False, False, False, True, True]


def test_the_largest_weights_are_kept_and_the_mask_stays_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny("robust-bird", tolerance=1.0)
    counts: list[list[int]] = []
    model = train_with_callback(recipe, lambda model, step: counts.append(kept_counts(model)), monkeypatch).model
    # Masks are compared every second step, so the fifth mask is that of the tenth step.
    assert counts[8] == sizes(model) and sum(counts[9]) == round(0.2 * sum(sizes(model)))
    assert all(count == counts[9] for count in counts[9:])
    assert len({round(count / size, 2) for count, size in zip(counts[9], sizes(model), strict=True)}) > 3


def test_training_is_clean_before_pruning_and_adversarial_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    clean: list[bool] = []
    original = trainer.clean_loss

    def recorded_loss(*arguments: Any) -> Any:
        clean.append(True)
        return original(*arguments)

    monkeypatch.setattr(trainer, "clean_loss", recorded_loss)
    train_tiny(tiny("robust-bird", tolerance=1.0))
    assert len(clean) == 10
    clean.clear()
    # If the mask never settles, clean training ends after `clean_epochs`.
    model = train_tiny(tiny("robust-bird", tolerance=0.0, clean_epochs=1, every=1)).model
    assert len(clean) == 10 and sum(kept_counts(model)) == round(0.2 * sum(sizes(model)))
