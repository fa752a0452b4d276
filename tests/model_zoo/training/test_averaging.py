"""Tests of the moving average of parameters: it is evaluated, selected and returned, and does not affect the training."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from model_zoo.layers.masked import MaskedConv2d
from model_zoo.layers.pruned_binary import PrunedBinaryConv2d, top_mask
from model_zoo.training import trainer
from model_zoo.training.averaging import BATCHES, ParameterAverage, epoch_sampler, recompute_statistics
from model_zoo.training.building import build_model
from model_zoo.training.engine import DenseEngine
from model_zoo.training.recipe import Recipe
from model_zoo.training.sampler import Crop, Sampler, on_device
from model_zoo.training.sharing import Draws, Share
from model_zoo.training.state import read_state
from model_zoo.training.trainer import finished, train
from tests.model_zoo.families.runs import OPTIONS, SGD
from tests.model_zoo.training.test_state import train_with_interruptions
from tests.model_zoo.training.test_trainer import hash_of_weights
from tests.model_zoo.training.tiny import SAMPLE, recipe

EPSILON = 8 / 255


def engine(chosen: Recipe) -> DenseEngine:
    return DenseEngine(build_model(chosen).train(), Share(), chosen.optimiser.batch, faithful=True)


def sampler(count: int = 200, batch: int = 20) -> Sampler:
    pixels, labels = on_device(SAMPLE.images[:count], SAMPLE.labels[:count], torch.device("cpu"))
    return Sampler(pixels, labels, batch, Crop(), Draws(torch.Generator().manual_seed(1), Share()))


def test_the_decay_warms_up() -> None:
    layer = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(2.0)
    average = ParameterAverage(layer, 0.3)
    expected = 2.0
    for step, decay in enumerate([1 / 10, 2 / 11, 3 / 12, 0.3, 0.3]):
        with torch.no_grad():
            layer.weight.fill_(float(step))
        average.update()
        expected = decay * expected + (1 - decay) * step
        assert float(average.values["weight"]) == pytest.approx(expected)


def test_the_average_of_an_untrained_parameter_is_its_value() -> None:
    layer = nn.Linear(1, 1, bias=False)
    average = ParameterAverage(layer, 0.9)

    def move(value: float, trained: bool) -> float:
        layer.weight.requires_grad_(trained)
        with torch.no_grad():
            layer.weight.fill_(value)
        average.update()
        return float(average.values["weight"])

    move(1.0, True)
    assert move(5.0, False) == 5.0
    # A method changes the parameter before the epoch in which it is trained again.
    with torch.no_grad():
        layer.weight.fill_(10.0)
    average.at_epoch()
    assert move(20.0, True) == pytest.approx(0.1 * 10 + 0.9 * 20)
    average.at_epoch()
    assert float(average.values["weight"]) == pytest.approx(19.0)


def test_masks_follow_the_average_inside_the_context_and_the_network_is_restored() -> None:
    dense = engine(recipe())
    average = ParameterAverage(dense.model, 0.9)
    layers = [layer for layer in dense.model.modules() if isinstance(layer, PrunedBinaryConv2d)]
    with torch.no_grad():
        for layer in layers:
            layer.scores.copy_(torch.randn(layer.scores.shape))
    dense.refresh()
    before = {name: tensor.clone() for name, tensor in dense.model.state_dict().items()}
    images = SAMPLE.first(10).tensors()[0]
    logits = dense.evaluated(images)
    with average.in_place(dense):
        recompute_statistics(dense, dense.model, sampler(), EPSILON)
        for name, layer in dense.model.named_modules():
            if isinstance(layer, PrunedBinaryConv2d):
                assert torch.equal(layer.scores, average.values[f"{name}.scores"])
                assert torch.equal(layer.mask, top_mask(layer.scores, layer.kept))
                assert layer.kept == layer.mask.numel() or not torch.equal(layer.mask, before[f"{name}.mask"])
        assert not torch.equal(dense.evaluated(images), logits)
    assert all(torch.equal(dense.model.state_dict()[name], tensor) for name, tensor in before.items())
    assert torch.equal(dense.evaluated(images), logits)
    with pytest.raises(KeyboardInterrupt), average.in_place(dense):
        raise KeyboardInterrupt
    assert all(torch.equal(dense.model.state_dict()[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("epsilon", [EPSILON, 0.0])
def test_running_statistics_are_means_over_attacked_batches(epsilon: float) -> None:
    dense = engine(recipe())
    norm: Any = dense.model.network.bn1
    norm_inputs: list[torch.Tensor] = []
    passes: list[tuple[torch.Tensor, torch.Tensor]] = []
    norm.register_forward_pre_hook(lambda _, inputs: norm_inputs.append(inputs[0].detach().clone()))
    dense.model.register_forward_hook(lambda module, inputs, _: passes.append((inputs[0].detach().clone(), norm_inputs[-1])))
    image_sampler = sampler(100, 20)
    recompute_statistics(dense, dense.model, image_sampler, epsilon)
    # An epoch has five batches; an attacked batch needs one pass for the attack step and one with the result.
    assert len(passes) == (10 if epsilon else 5)
    attacked = passes[1::2] if epsilon else passes
    means = torch.stack([inputs.mean((0, 2, 3)) for _, inputs in attacked]).mean(0)
    variances = torch.stack([inputs.var((0, 2, 3)) for _, inputs in attacked]).mean(0)
    assert torch.allclose(norm.running_mean, means, atol=1e-5)
    assert torch.allclose(norm.running_var, variances, rtol=1e-4)
    assert norm.momentum == 0.1 and dense.model.training
    if epsilon:
        moves = [(after[0] - before[0]).abs().max() for before, after in zip(passes[::2], passes[1::2], strict=True)]
        assert all(EPSILON < float(move) <= 2 * EPSILON + 1e-6 for move in moves)


def test_statistics_use_at_most_sixteen_batches_seeded_by_seed_and_epoch() -> None:
    dense = engine(recipe())
    passes: list[None] = []
    dense.model.register_forward_hook(lambda *_: passes.append(None))
    run = sampler(600, 20)
    before = run.draws.generator.get_state()
    recompute_statistics(dense, dense.model, epoch_sampler(run, 3, 1), 0.0)
    assert len(passes) == BATCHES < run.batches
    assert torch.equal(run.draws.generator.get_state(), before) and run.order is None
    batches = [next(epoch_sampler(run, seed, epoch).epoch()).images for seed, epoch in ((3, 1), (3, 1), (3, 2), (4, 1))]
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2]) and not torch.equal(batches[0], batches[3])


@pytest.mark.parametrize("family", ["pruned-binary", "dense"])
def test_averaging_does_not_change_the_training_but_the_returned_network(family: str) -> None:
    plain, averaged = recipe(family), recipe(family, top={"average": 0.9})
    plain_run, averaged_run = train(plain, SAMPLE.images, SAMPLE.labels), train(averaged, SAMPLE.images, SAMPLE.labels)
    assert [record.train_loss for record in plain_run.curve] == [record.train_loss for record in averaged_run.curve]
    assert hash_of_weights(plain_run, plain) != hash_of_weights(averaged_run, averaged)
    assert plain_run.curve[-1].hold_out_clean_accuracy != averaged_run.curve[-1].hold_out_clean_accuracy or family != "dense"


def test_the_evaluated_network_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[dict[str, torch.Tensor]] = []

    def recorded_accuracy(engine: DenseEngine, *_: object) -> tuple[float, float]:
        states.append({name: tensor.clone() for name, tensor in engine.model.state_dict().items()})
        return 0.5, (0.3, 0.2)[len(states) % 2]

    monkeypatch.setattr(trainer, "hold_out_accuracy", recorded_accuracy)
    for select, expected in (("last", 1), ("hold-out", 1)):
        states.clear()
        result = train(recipe(top={"average": 0.9, "select": select}), SAMPLE.images, SAMPLE.labels)
        assert result.selected.epoch == expected + 1
        assert all(torch.equal(result.model.state_dict()[name], tensor) for name, tensor in states[expected].items())


CASES = {
    "pruned-binary": {"select": "hold-out"},
    "dense": {},
    "hydra": {},
    "harp": {},
    "flying-bird": {},
}


@pytest.mark.parametrize("family", sorted(CASES))
def test_a_resumed_run_returns_the_same_average(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {} if family == "pruned-binary" else {"options": OPTIONS[family]}
    kind = {} if family == "pruned-binary" else SGD
    data = {"dataset": "cifar10", "hold_out": 20, "images": 270}
    chosen = recipe(family, top={"average": 0.8, "data": data, **options, **CASES[family]}, epochs=3, batch=25, **kind)
    uninterrupted = train(chosen, SAMPLE.images, SAMPLE.labels)
    path = tmp_path / "tiny.state.pt"
    resumed = train_with_interruptions(chosen, path, [4, 10, 14, 21, 30], monkeypatch)
    expected = uninterrupted.model.state_dict()
    assert all(torch.equal(resumed.model.state_dict()[name], tensor) for name, tensor in expected.items())
    assert [record.hold_out_pgd_accuracy for record in resumed.curve] == [record.hold_out_pgd_accuracy for record in uninterrupted.curve]
    reloaded = finished(chosen, path)
    assert reloaded is not None and all(torch.equal(reloaded.model.state_dict()[name], tensor) for name, tensor in expected.items())
    state = read_state(path)["average"]
    assert set(state["values"]) == {name for name, _ in uninterrupted.model.named_parameters()}
    if family == "hydra":
        # Scores are trained only in the second epoch; afterwards their average is their value.
        scores = [name for name in state["updates"] if name.endswith("scores")]
        assert all(state["updates"][name] == 0 for name in scores)
        layers = [layer for layer in uninterrupted.model.modules() if isinstance(layer, MaskedConv2d)]
        assert all(torch.equal(layer.weight * layer.mask, layer.effective_weight()) for layer in layers)
