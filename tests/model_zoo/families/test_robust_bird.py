"""Tests of Robust Bird: clean training until the global mask of the largest weights settles, then pruning and adversarial training."""

from typing import Any

import pytest
import torch
from torch import nn

from model_zoo.families.robust_bird import HISTORY, EarlyBird
from model_zoo.layers.masked import masked_layers
from model_zoo.training import trainer
from model_zoo.training.building import build
from tests.model_zoo.families.runs import kept, sizes, tiny, trained, watched


def bird(**options: Any) -> tuple[nn.Module, EarlyBird]:
    model, controller = build(tiny("robust-bird", **options))
    assert isinstance(controller, EarlyBird)
    return model, controller


def scrambled(model: nn.Module, share: float) -> None:
    """Change the global mask in `share` of all weights: half of these are kept weights set to zero, half are others made large."""
    flat = torch.cat([layer.weight.detach().flatten() for layer in masked_layers(model)])
    order = flat.abs().argsort(descending=True)
    count = round(share * len(flat) / 2)
    kept_count = round(0.2 * len(flat))
    flat[order[kept_count - count : kept_count]] = 0.0
    flat[order[kept_count : kept_count + count]] = 10.0
    for layer, part in zip(masked_layers(model), flat.split(sizes(model)), strict=True):
        with torch.no_grad():
            layer.weight.copy_(part.view(layer.weight.shape))


@pytest.mark.parametrize(("share", "found"), [(0.04, True), (0.06, False)])
def test_the_distance_of_two_masks_is_the_share_of_all_weights_in_which_they_differ(share: float, found: bool) -> None:
    model, watcher = bird(tolerance=0.05)
    for _ in range(HISTORY):
        watcher.compare()
    assert not bool(watcher.found)
    scrambled(model, share)
    watcher.compare()
    assert bool(watcher.found) == found


def test_four_masks_before_the_newest_are_needed() -> None:
    _, watcher = bird()
    states = []
    for _ in range(6):
        watcher.compare()
        states.append(bool(watcher.found))
    assert states == [False, False, False, False, True, True]


def test_the_largest_weights_of_the_whole_network_are_kept_when_it_prunes_and_then_the_mask_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny("robust-bird", tolerance=1.0)
    counts: list[list[int]] = []
    model = watched(recipe, lambda model, step: counts.append(kept(model)), monkeypatch).model
    # Masks are compared every second step, so the fifth mask is that of the tenth step.
    assert counts[8] == sizes(model) and sum(counts[9]) == round(0.2 * sum(sizes(model)))
    assert all(count == counts[9] for count in counts[9:])
    assert len({round(count / size, 2) for count, size in zip(counts[9], sizes(model), strict=True)}) > 3


def test_images_are_clean_until_then_and_adversarial_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    clean: list[bool] = []
    original = trainer.clean_loss

    def noted(*arguments: Any) -> Any:
        clean.append(True)
        return original(*arguments)

    monkeypatch.setattr(trainer, "clean_loss", noted)
    trained(tiny("robust-bird", tolerance=1.0))
    assert len(clean) == 10
    clean.clear()
    # If the mask never settles, clean training ends after `clean_epochs`.
    model = trained(tiny("robust-bird", tolerance=0.0, clean_epochs=1, every=1)).model
    assert len(clean) == 10 and sum(kept(model)) == round(0.2 * sum(sizes(model)))
