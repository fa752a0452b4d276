"""Tests of FlyingBird, which keeps the number of weights per layer and grows at random positions, and of FlyingBird+, which adapts it."""

import pytest
import torch
from torch import nn

from model_zoo.errors import UsageError
from model_zoo.families.flying_bird import Rewiring
from model_zoo.families.flying_bird_plus import AdaptiveRewiring
from model_zoo.layers.masked import MaskedConv2d, masked_layers
from model_zoo.pruning.regrowth import balanced_counts
from model_zoo.training.building import build, build_model
from model_zoo.training.curve import EpochRecord
from model_zoo.training.outcome import describe
from tests.model_zoo.families.runs import kept_counts, masks, sizes, tiny, train_tiny, train_with_callback


def test_exchanges_keep_the_counts_per_layer_and_change_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny("flying-bird")
    counts: list[list[int]] = []
    moves: list[int] = []
    before = masks(build_model(recipe))

    def record(model: nn.Module, step: int) -> None:
        nonlocal before
        counts.append(kept_counts(model))
        moves.append(sum(int((mask != previous).sum()) for mask, previous in zip(masks(model), before, strict=True)))
        before = masks(model)

    result = train_with_callback(recipe, record, monkeypatch)
    assert all(count == balanced_counts(sizes(result.model), 0.2) for count in counts)
    assert [step for step, changes in enumerate(moves[:30], 1) if changes] == [3, 6, 9, 12, 15, 18, 21, 24, 27, 30]
    # The rate is half a cosine: many places early, very few at the end.
    exchanged = [moves[step - 1] for step in (3, 15, 30)]
    assert exchanged[0] > exchanged[1] > exchanged[2] > 0 and exchanged[2] < 0.03 * sum(counts[0])


def test_an_exchange_drops_the_smallest_weights_and_grows_random_positions_at_zero() -> None:
    model, rewiring = build(tiny("flying-bird"))
    assert isinstance(rewiring, Rewiring)
    layer = max(masked_layers(model), key=lambda layer: layer.mask.numel())
    mask = layer.mask.clone()
    magnitudes = layer.weight.detach().abs()[mask > 0].sort().values
    dropped = -(-magnitudes.numel() * 3 // 10)
    rewiring.update(layer, 0.3, torch.Generator().manual_seed(0))
    survivors = (layer.mask > 0) & (mask > 0) & (layer.weight.detach() != 0)
    assert torch.equal(layer.weight.detach().abs()[survivors].sort().values, magnitudes[dropped:])
    grown = (layer.mask > 0) & (layer.weight.detach() == 0)
    assert int(grown.sum()) == dropped and int(layer.mask.sum()) == int(mask.sum())
    # Positions are random: another seed gives others, and free positions have the same chance as those just dropped.
    second_model, second_rewiring = build(tiny("flying-bird"))
    assert isinstance(second_rewiring, Rewiring)
    second_layer = max(masked_layers(second_model), key=lambda layer: layer.mask.numel())
    second_rewiring.update(second_layer, 0.3, torch.Generator().manual_seed(1))
    assert not torch.equal(second_layer.mask, layer.mask)
    chance = float((grown & (mask > 0)).sum()) / dropped
    assert chance == pytest.approx(dropped / (mask.numel() - magnitudes.numel() + dropped), abs=0.08)


def adaptive_rewiring() -> AdaptiveRewiring:
    controller = build(tiny("flying-bird-plus"))[1]
    assert isinstance(controller, AdaptiveRewiring)
    return controller


def record(robust: float, held_out: float) -> EpochRecord:
    return EpochRecord(1, 0.1, 1.0, robust, 0.5, held_out, 1.0)


@pytest.mark.parametrize(
    ("curve", "overfits", "falls"),
    [
        ([record(0.3, 0.3)], False, False),
        ([record(0.3, 0.3), record(0.4, 0.35)], True, False),
        ([record(0.3, 0.3), record(0.3, 0.35)], False, False),
        ([record(0.3, 0.3), record(0.2, 0.25)], False, True),
        ([record(0.3, 0.3), record(0.5, 0.35), record(0.6, 0.3), record(0.6, 0.4), record(0.6, 0.5)], True, False),
        # Epochs before the window do not count.
        ([record(0.3, 0.3), record(0.5, 0.2), record(0.5, 0.3), record(0.5, 0.4), record(0.5, 0.45), record(0.5, 0.5)], False, False),
    ],
)
def test_the_training_curve_controls_flying_bird_plus(curve: list[EpochRecord], overfits: bool, falls: bool) -> None:
    rewiring = adaptive_rewiring()
    rewiring.after_epoch(curve)
    assert (bool(rewiring.overfits), bool(rewiring.falls)) == (overfits, falls)


@pytest.mark.parametrize(("overfits", "falls", "progress"), [(True, False, 0.9), (False, True, 0.9), (True, True, 0.9), (True, True, 0.2)])
def test_flying_bird_plus_drops_or_grows_more_late_in_training(overfits: bool, falls: bool, progress: float) -> None:
    model, rewiring = build(tiny("flying-bird-plus", death_rate=0.3, last_death_rate=0.3, every=1))
    assert isinstance(rewiring, AdaptiveRewiring)
    rewiring.overfits.fill_(overfits)
    rewiring.falls.fill_(falls)
    before = kept_counts(model)
    rewiring.after_step(progress)
    for count, after in zip(before, kept_counts(model), strict=True):
        exchanged = -(-count * 3 // 10)
        is_late = progress > 0.3
        dropped = -(-count * 12 // 100) if overfits and is_late else 0
        grown = int(0.05 * exchanged) if falls and is_late else 0
        assert after == pytest.approx(count - dropped + grown, abs=1)


def test_the_record_contains_the_final_keep_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny("flying-bird-plus")
    monkeypatch.setattr(AdaptiveRewiring, "after_epoch", lambda self, curve: self.overfits.fill_(True))
    result = train_tiny(recipe)
    described = describe(result, recipe, result.model, b"packed")
    nonzero = sum(int((layer.effective_weight() != 0).sum()) for layer in masked_layers(result.model))
    assert described.keep_ratio == pytest.approx(nonzero / sum(sizes(result.model)), abs=1e-4)
    assert described.keep_ratio < 0.18


def test_flying_bird_plus_requires_held_out_images() -> None:
    with pytest.raises(UsageError, match="held-out images"):
        adaptive_rewiring().after_epoch([record(0.3, float("nan"))])


def test_the_last_weight_of_a_layer_is_never_dropped() -> None:
    layer = MaskedConv2d(2, 2, 1)
    layer.keep_top(layer.weight, 1)
    rewiring = adaptive_rewiring()
    rewiring.late = True
    rewiring.overfits.fill_(True)
    rewiring.update(layer, 1.0, torch.Generator().manual_seed(0))
    assert int(layer.mask.sum()) >= 1
