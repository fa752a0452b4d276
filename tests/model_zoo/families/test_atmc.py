"""Tests of ATMC: a global budget of nonzeros from ADMM on, and at most 2^bits values per tensor at the end."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from model_zoo.errors import UsageError
from model_zoo.families.atmc import Compression
from model_zoo.layers.factored import FactoredConv2d, Factors
from model_zoo.packing.frozen import effective_weights, freeze
from model_zoo.packing.packed import load_packed
from model_zoo.pruning.allocation import layer_keep_counts
from model_zoo.pruning.stages import FINETUNE, SEARCH
from model_zoo.training.building import build, build_model
from model_zoo.training.controller import Controller
from model_zoo.training.outcome import keep
from tests.model_zoo.families.runs import tiny, train_with_controller_callback

IMAGE = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def factored_layers(model: nn.Module) -> list[FactoredConv2d]:
    return [layer for layer in model.modules() if isinstance(layer, FactoredConv2d)]


def compression(**options: Any) -> Compression:
    controller = build(tiny("atmc", **options))[1]
    assert isinstance(controller, Compression)
    return controller


def test_the_budget_holds_after_every_admm_step_and_values_are_quantised_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny("atmc")
    history: list[torch.Tensor] = []
    controllers: list[Compression] = []

    def record(model: nn.Module, controller: Controller, step: int) -> None:
        assert isinstance(controller, Compression)
        controllers.append(controller)
        history.append(controller.entries().detach().clone())

    model = train_with_controller_callback(recipe, record, monkeypatch).model
    controller = controllers[0]
    (budget,) = controller.budgets
    assert budget == round(0.2 * sum(layer.rest.numel() for layer in factored_layers(model)))
    counts = [int((entries != 0).sum()) for entries in history]
    # Steps 1-10 are unconstrained, 11-20 are ADMM's, and 21-30 train the centres.
    assert all(count > 2 * budget for count in counts[:10])
    assert all(0.98 * budget < count <= budget for count in counts[10:])
    values = [[len(part.unique()) for part in controller.split(entries)] for entries in history]
    assert max(values[19]) > 100
    assert all(max(sizes) <= 2**3 for sizes in values[20:])
    # Centres move, and every entry stays with its centre.
    assert not torch.equal(history[20], history[29]) and torch.equal(history[20] == 0, history[29] == 0)
    # All three kinds of factors have nonzero entries.
    for number in range(3):
        assert sum(int((part != 0).sum()) for part in controller.split(history[29])[number::3]) > 10


def test_the_projection_keeps_the_largest_entries_of_the_whole_network() -> None:
    controller = compression()
    entries = torch.randn(controller.targets.shape, generator=torch.Generator().manual_seed(0))
    projected = controller.project(entries)
    assert [int((projected != 0).sum())] == controller.budgets
    assert torch.equal(projected[projected != 0], entries[projected != 0])
    assert float(projected[projected != 0].abs().min()) >= float(entries[projected == 0].abs().max())


def test_admm_targets_are_quantised_and_duals_accumulate_the_difference() -> None:
    controller = compression(rho=0.4)
    assert controller.penalty() == 0.0
    controller.enter(SEARCH)
    entries = controller.entries().detach()
    controller.draw(entries)
    assert all(len(part.unique()) <= 2**3 for part in controller.split(controller.targets))
    assert torch.equal(controller.duals, entries - controller.targets)
    pull = torch.as_tensor(controller.penalty())
    assert float(pull.detach()) == pytest.approx(0.2 * float((2.0 * (entries - controller.targets)).square().sum()), rel=1e-4)
    pull.backward()
    gradient = torch.cat([part.grad.flatten() for part in controller.parts() if part.grad is not None])
    assert torch.allclose(gradient, 0.4 * (entries + controller.duals - controller.targets), atol=1e-6)
    before = controller.duals.clone()
    controller.draw(entries)
    assert not torch.equal(controller.duals, before)


@pytest.mark.parametrize(("inputs", "outputs", "size"), [(3, 8, 3), (2, 30, 3), (8, 8, 1), (16, 4, 1)])
def test_a_factored_convolution_starts_as_a_dense_one_and_computes_with_the_product(inputs: int, outputs: int, size: int) -> None:
    torch.manual_seed(0)
    layer = FactoredConv2d(inputs, outputs, size)
    torch.manual_seed(0)
    dense = nn.Conv2d(inputs, outputs, size, bias=False)
    assert torch.allclose(layer.effective_weight(), dense.weight, atol=1e-7)
    with torch.no_grad():
        for part in layer.factors():
            part.copy_(torch.randn(part.shape) * (torch.rand(part.shape) < 0.3))
    rank = min(outputs, inputs * size * size)
    assert [tuple(part.shape) for part in layer.factors()] == [(outputs, rank), (rank, inputs * size**2), (outputs, inputs * size**2)]
    stored = layer.stored()
    assert np.allclose(stored.product(), layer.effective_weight().detach().flatten(1).numpy(), atol=1e-5)


def test_the_product_does_not_depend_on_the_order_of_summation() -> None:
    generator = np.random.default_rng(0)
    left, right, rest = (generator.standard_normal(shape).astype(np.float32) for shape in ((20, 20), (20, 50), (20, 50)))
    expected = rest.astype(np.float64)
    for row in range(20):
        for column in range(50):
            for rank in range(20):
                expected[row, column] += (
                    np.float64(left[row, rank] + 0.0 if row != rank else np.float64(left[row, rank]) + 1.0) * right[rank, column]
                )
    assert Factors(left, right, rest).product().tobytes() == expected.astype(np.float32).tobytes()


@pytest.mark.parametrize("power", [0.1, 1.0])
def test_an_allocation_power_gives_every_layer_a_budget(power: float, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[list[int]] = []

    def record(model: nn.Module, controller: Controller, step: int) -> None:
        counts.append([sum(int((part != 0).sum()) for part in layer.factors()) for layer in factored_layers(model)])

    model = train_with_controller_callback(tiny("atmc", allocation="adaptive", allocation_power=power), record, monkeypatch).model
    sizes = [layer.rest.numel() for layer in factored_layers(model)]
    budgets = layer_keep_counts(sizes, 0.2, power)
    for count in counts[10:]:
        assert all(0.9 * budget - 1 <= kept <= budget + 1 for kept, budget in zip(count, budgets, strict=True))


def test_one_bit_layers_are_stored_as_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny("atmc", bits=1)
    history: list[torch.Tensor] = []

    def record_entries(model: nn.Module, controller: Controller, step: int) -> None:
        assert isinstance(controller, Compression)
        history.append(controller.entries().detach().clone())

    result = train_with_controller_callback(recipe, record_entries, monkeypatch)
    budget = round(0.2 * len(history[0]))
    assert all(int((entries != 0).sum()) == budget for entries in history[10:])
    assert all(torch.equal(entries.sign(), history[20].sign()) for entries in history[21:])
    record = keep(result, recipe, tmp_path)
    assert (record.family, record.weight_bits, record.keep_ratio) == ("sparse-binary", 1, pytest.approx(0.2, abs=1e-4))
    loaded = load_packed(tmp_path / record.checkpoint.file)
    assert loaded.header["weights"] == "pruned-signs"
    assert all(len(np.unique(np.abs(weight[weight != 0]))) == 1 for weight in effective_weights(loaded.model))


def test_with_32_bits_weights_are_not_quantised_and_are_trained_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny("atmc", bits=32)
    history: list[torch.Tensor] = []

    def record_entries(model: nn.Module, controller: Controller, step: int) -> None:
        assert isinstance(controller, Compression) and controller.penalty() == 0.0
        history.append(controller.entries().detach().clone())

    result = train_with_controller_callback(recipe, record_entries, monkeypatch)
    assert torch.equal(history[20] == 0, history[29] == 0)
    before, after = (entries[history[29] != 0] for entries in (history[20], history[29]))
    assert float((before != after).float().mean()) > 0.9
    record = keep(result, recipe, tmp_path)
    assert (record.family, record.weight_bits) == ("sparse", 32)
    assert torch.equal(load_packed(tmp_path / record.checkpoint.file).model(IMAGE), freeze(result.model, recipe.architecture, True)(IMAGE))


@pytest.mark.parametrize("family", ["atmc", "hydra"])
def test_unknown_allocations_are_errors(family: str) -> None:
    with pytest.raises(UsageError, match="adaptive or global"):
        build_model(tiny(family, allocation="layerwise"))
    with pytest.raises(UsageError, match="from 0 to 1"):
        tiny(family, allocation="adaptive", allocation_power=1.1)


def test_stages_are_entered_once() -> None:
    controller = compression()
    controller.enter(FINETUNE)
    codes, entries = controller.codes.clone(), controller.entries().detach().clone()
    controller.enter(SEARCH)
    controller.enter(FINETUNE)
    assert torch.equal(controller.codes, codes) and torch.equal(controller.entries().detach(), entries)


def test_unsupported_bits_are_an_error() -> None:
    for bits in (9, 33):
        with pytest.raises(UsageError, match="from 1 to 8, or 32"):
            build_model(tiny("atmc", bits=bits))
