"""Tests of training on a few real images: it is seeded, follows its recipe, and does not change global state."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model_zoo.errors import UsageError, UserError
from model_zoo.layers.pruned_binary import PrunedBinaryConv2d
from model_zoo.packing.frozen import freeze, weights_sha256
from model_zoo.training.building import build_model
from model_zoo.training.curve import EpochRecord
from model_zoo.training.engine import DenseEngine
from model_zoo.training.methods.pgd import Madry
from model_zoo.training.recipe import Recipe
from model_zoo.training.sampler import Batch
from model_zoo.training.trained import Step, Trained
from model_zoo.training.trainer import train
from tests.model_zoo.training.tiny import SAMPLE, recipe


def hash_of_weights(trained: Trained, chosen: Recipe) -> str:
    return weights_sha256(freeze(trained.model, chosen.architecture, chosen.family != "pruned-binary"))


@pytest.mark.parametrize("family", ["pruned-binary", "dense", "dense-binary"])
def test_training_is_reproducible_and_decreases_the_loss(family: str) -> None:
    chosen = recipe(family)
    events: list[Any] = []
    first = train(chosen, SAMPLE.images, SAMPLE.labels, report=events.append)
    second = train(chosen, SAMPLE.images, SAMPLE.labels)
    assert hash_of_weights(first, chosen) == hash_of_weights(second, chosen)
    assert [record.epoch for record in first.curve] == [1, 2]
    assert first.curve[1].train_loss < first.curve[0].train_loss
    assert [event.done for event in events if isinstance(event, Step)] == list(range(1, 21))
    assert sum(isinstance(event, EpochRecord) for event in events) == 2
    assert not first.model.training and first.selected == first.curve[-1]


def test_the_global_random_state_is_unchanged() -> None:
    torch.manual_seed(11)
    expected = torch.rand(2)
    torch.manual_seed(11)
    train(recipe(epochs=1), SAMPLE.images[:200], SAMPLE.labels[:200])
    assert torch.equal(torch.rand(2), expected)


def test_random_signs_and_counts_of_kept_weights_never_change() -> None:
    chosen = recipe()
    layers = [layer for layer in build_model(chosen).modules() if isinstance(layer, PrunedBinaryConv2d)]
    trained = train(chosen, SAMPLE.images, SAMPLE.labels)
    after = [layer for layer in trained.model.modules() if isinstance(layer, PrunedBinaryConv2d)]
    for old, new in zip(layers, after, strict=True):
        assert torch.equal(old.signs, new.signs.contiguous())
        assert int(new.mask.sum()) == old.kept == new.kept
    assert any(not torch.equal(old.mask, new.mask.contiguous()) for old, new in zip(layers, after, strict=True))


def test_another_seed_gives_other_weights() -> None:
    first, second = build_model(recipe()), build_model(dataclasses.replace(recipe(), seed=4))
    assert not torch.equal(first.network.conv1.signs, second.network.conv1.signs)  # type: ignore[union-attr,arg-type]


def test_the_model_of_the_best_epoch_is_selected(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = recipe(top={"select": "hold-out"}, epochs=3)
    states: list[dict[str, torch.Tensor]] = []

    def fixed_accuracies(engine: DenseEngine, *_: object) -> tuple[float, float]:
        model = engine.model
        states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return 0.5, (0.2, 0.4, 0.3)[len(states) - 1]

    monkeypatch.setattr("model_zoo.training.trainer.hold_out_accuracy", fixed_accuracies)
    trained = train(chosen, SAMPLE.images, SAMPLE.labels)
    assert trained.selected.epoch == 2 and len(trained.curve) == 3
    assert all(torch.equal(trained.model.state_dict()[name], tensor) for name, tensor in states[1].items())
    assert any(not torch.equal(trained.model.state_dict()[name], tensor) for name, tensor in states[2].items())


def test_gradual_pruning_keeps_a_power_of_the_keep_ratio_per_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"keep_ratio": 0.25, "allocation_power": 1.0, "stages": 2}
    shares: list[float] = []

    def record_shares(engine: DenseEngine, *_: object) -> tuple[float, float]:
        layers = [layer for layer in engine.model.modules() if isinstance(layer, PrunedBinaryConv2d)]
        shares.append(sum(layer.kept for layer in layers) / sum(layer.scores.numel() for layer in layers))
        assert all(int(layer.mask.sum()) == layer.kept for layer in layers)
        return 0.5, 0.5

    monkeypatch.setattr("model_zoo.training.trainer.hold_out_accuracy", record_shares)
    train(recipe(top={"options": options}, epochs=4), SAMPLE.images[:200], SAMPLE.labels[:200])
    assert shares == pytest.approx([0.5, 0.5, 0.25, 0.25], abs=0.002)


@pytest.mark.slow
def test_a_compiled_network_is_trained_to_nearly_the_same_loss() -> None:
    chosen = recipe(epochs=1)
    plain, compiled = (train(chosen, SAMPLE.images[:200], SAMPLE.labels[:200], compiled=compiled) for compiled in (False, True))
    assert compiled.curve[0].train_loss == pytest.approx(plain.curve[0].train_loss, rel=0.05)
    assert compiled.model.state_dict().keys() == plain.model.state_dict().keys()


def test_too_few_images_are_an_error() -> None:
    with pytest.raises(UsageError, match="not enough"):
        train(recipe(), np.zeros((20, 32, 32, 3), np.uint8), np.zeros(20, np.int64))


def test_test_images_affect_only_the_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = recipe(top={"select": "hold-out"})
    plain = train(chosen, SAMPLE.images, SAMPLE.labels)
    test = (SAMPLE.images[:60], SAMPLE.labels[:60])
    tested = train(chosen, SAMPLE.images, SAMPLE.labels, test=test)
    assert hash_of_weights(tested, chosen) == hash_of_weights(plain, chosen) and tested.selected.epoch == plain.selected.epoch
    for plain_epoch, tested_epoch in zip(plain.curve, tested.curve, strict=True):
        assert math.isnan(plain_epoch.test_clean_accuracy) and math.isnan(plain_epoch.test_pgd_accuracy)
        assert plain_epoch.hold_out_pgd_accuracy == tested_epoch.hold_out_pgd_accuracy
        assert 0.0 <= tested_epoch.test_pgd_accuracy <= tested_epoch.test_clean_accuracy <= 1.0
    images, labels = SAMPLE.first(60).tensors()
    with torch.no_grad():
        clean = float((tested.model(images).argmax(1) == labels).float().mean())
    assert tested.selected.test_clean_accuracy == pytest.approx(clean)
    assert "test clean" in str(tested.curve[0]) and "test clean" not in str(plain.curve[0])

    # The best epoch on the test images is not the one that is selected.
    def fixed_accuracies(engine: DenseEngine, pixels: torch.Tensor, *_: object) -> tuple[float, float]:
        sizes.append(len(pixels))
        return 0.5, {100: (0.4, 0.3), 60: (0.1, 0.9)}[len(pixels)][(len(sizes) - 1) // 2]

    sizes: list[int] = []
    monkeypatch.setattr("model_zoo.training.trainer.hold_out_accuracy", fixed_accuracies)
    assert train(chosen, SAMPLE.images, SAMPLE.labels, test=test).selected.epoch == 1
    assert sorted(sizes) == [60, 60, 100, 100]


def test_test_images_of_other_classes_or_shapes_are_errors() -> None:
    with pytest.raises(UsageError, match="10 classes"):
        train(recipe(), SAMPLE.images, SAMPLE.labels, test=(SAMPLE.images[:5], np.full(5, 10)))
    with pytest.raises(UsageError, match="shape"):
        train(recipe(), SAMPLE.images, SAMPLE.labels, test=(SAMPLE.images[:5, :16], SAMPLE.labels[:5]))


def test_the_attack_changes_at_the_given_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    strengths: list[tuple[int, float]] = []

    def recorded_loss(method: Madry, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        strengths.append((method.setting.steps, method.setting.step))
        return original(method, batch)

    original = Madry.loss
    monkeypatch.setattr(Madry, "loss", recorded_loss)
    later = [{"epoch": 1, "steps": 3, "step": "4/255"}, {"epoch": 2, "steps": 1, "step": "10/255"}]
    train(recipe(attack={"later": later}, epochs=3), SAMPLE.images[:200], SAMPLE.labels[:200])
    assert strengths == [(2, 6 / 255)] * 2 + [(3, 4 / 255)] * 2 + [(1, 10 / 255)] * 2


def test_clean_training_fits_clean_images_and_is_evaluated_at_the_radius() -> None:
    fields = recipe("dense", epochs=4).to_dict()
    chosen = Recipe.from_dict({**fields, "attack": {"threat": "Linf 8/255", "method": "clean"}})
    natural, robust = (train(options, SAMPLE.images, SAMPLE.labels) for options in (chosen, recipe("dense", epochs=4)))
    assert natural.curve[-1].train_loss < robust.curve[-1].train_loss
    assert natural.curve[-1].hold_out_pgd_accuracy < natural.curve[-1].hold_out_clean_accuracy


def test_a_nan_loss_stops_the_run_and_names_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Madry.loss
    calls: list[int] = []

    def nan_loss(self: Madry, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(1)
        loss, logits = original(self, batch)
        return (loss * math.nan if len(calls) == 4 else loss), logits

    monkeypatch.setattr(Madry, "loss", nan_loss)
    with pytest.raises(UserError, match="the loss is nan in step 4 of 20"):
        train(recipe(), SAMPLE.images, SAMPLE.labels, state=tmp_path / "tiny.state.pt")
    assert not (tmp_path / "tiny.state.pt").exists()
