"""Tests of the adapters for robust scratch tickets and biprop: masks from scores, normalisation of the loader, one magnitude per layer."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from model_zoo.adapters import Request
from model_zoo.adapters.biprop import load_biprop
from model_zoo.adapters.rst import load_rst
from model_zoo.errors import DamagedFileError, UsageError
from model_zoo.packing.frozen import effective_weights
from model_zoo.packing.packed import load_packed
from model_zoo.packing.weights import magnitudes
from tests.model_zoo.adapters.official import (
    IMAGES,
    VGG16,
    PostActResNet,
    WideResNet,
    check,
    damaged_states,
    layers,
    save_checkpoint,
    seeded,
    settle,
)

KEEP = 0.63
LOADER = "edge-popup-loader"
REQUEST = Request("cifar10", keep_ratio=KEEP)
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "cifar-resnet18": lambda: PostActResNet(head="conv", affine=False),
    "wide-resnet": lambda: WideResNet(dead=False, head="conv", affine=False),
    "vgg16": lambda: VGG16(flat=True, affine=False, head="conv"),
}


def random_scores(network: nn.Module, seed: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(module.weight.shape, generator=generator) for name, module in layers(network)}


def top_mask(scores: torch.Tensor, keep_ratio: float) -> torch.Tensor:
    """Return the mask of edge-popup: sort the scores and drop the first int((1 - k) n)."""
    out = torch.ones(scores.numel())
    out[scores.abs().flatten().sort().indices[: int((1 - keep_ratio) * scores.numel())]] = 0.0
    return out.view(scores.shape)


def ticket(network: nn.Module) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """Return a network of signed constants masked by scores, and the state of its file."""
    scores, state, pruned = random_scores(network), {}, copy.deepcopy(network)
    for name, module in layers(pruned):
        constant = math.sqrt(2 / module.weight[0].numel())
        state |= {f"{name}.weight": module.weight.sign() * constant, f"{name}.scores": scores[name]}
        module.weight.copy_(state[f"{name}.weight"] * top_mask(scores[name], KEEP))
    return settle(pruned), {f"module.{name}": tensor for name, tensor in {**pruned.state_dict(), **state}.items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_of_a_ticket_with_the_normalisation_of_the_loader(name: str, tmp_path: Path) -> None:
    network, state = ticket(seeded(NETWORKS[name]))
    imported = load_rst(save_checkpoint({"state_dict": state, "curr_acc1": 47.0}, tmp_path), REQUEST)
    assert (imported.architecture["name"], imported.family, imported.weight_bits, imported.affine) == (name, "sparse-binary", 1, False)
    check(imported, network, tmp_path, LOADER)
    packed = load_packed(tmp_path / "kept" / "imported.safetensors")
    assert packed.header["weights"] == "pruned-signs"
    scales = magnitudes(effective_weights(packed.model))
    assert scales is not None and scales[0] == np.float32(math.sqrt(2 / 27))


def test_a_finetuned_ticket_has_float_weights(tmp_path: Path) -> None:
    network = seeded(NETWORKS["cifar-resnet18"])
    scores, pruned = random_scores(network), copy.deepcopy(network)
    for name, module in layers(pruned):
        module.weight.mul_(top_mask(scores[name], KEEP))
    weights = {f"{name}.weight": module.weight for name, module in layers(network)}
    settle(pruned)
    state = {**pruned.state_dict(), **weights, **{f"{name}.scores": score for name, score in scores.items()}}
    imported = load_rst(save_checkpoint({"state_dict": state}, tmp_path), REQUEST)
    assert (imported.family, imported.weight_bits) == ("sparse", 32)
    check(imported, pruned, tmp_path, LOADER)


def test_the_keep_ratio_is_required_and_changes_the_network(tmp_path: Path) -> None:
    _, state = ticket(seeded(NETWORKS["cifar-resnet18"]))
    path = save_checkpoint({"state_dict": state}, tmp_path)
    with pytest.raises(UsageError, match="--keep-ratio"):
        load_rst(path, Request("cifar10"))
    first, second = (load_rst(path, Request("cifar10", keep_ratio=ratio)) for ratio in (KEEP, 0.4))
    assert not torch.allclose(first.model(IMAGES), second.model(IMAGES), atol=0.01)


@pytest.mark.parametrize("layer", ["conv1", "layer2.0.shortcut.0", "fc"])
def test_a_layer_without_scores_is_an_error(layer: str, tmp_path: Path) -> None:
    _, state = ticket(seeded(NETWORKS["cifar-resnet18"]))
    del state[f"module.{layer}.scores"]
    with pytest.raises(DamagedFileError, match=f"{layer}.scores"):
        load_rst(save_checkpoint({"state_dict": state}, tmp_path), REQUEST)


@pytest.mark.parametrize(("state", "words"), damaged_states(ticket(seeded(NETWORKS["cifar-resnet18"]))[1], "module.layer3.0.conv2"))
@pytest.mark.parametrize("load", [load_rst, load_biprop])
def test_a_damaged_state_is_an_error(load: Any, state: dict[str, torch.Tensor], words: str, tmp_path: Path) -> None:
    state = {name if name.startswith("module.") else f"module.{name}": tensor for name, tensor in state.items()}
    with pytest.raises(DamagedFileError, match=words):
        load(save_checkpoint({"state_dict": state}, tmp_path), REQUEST)


def prize(network: nn.Module, layerwise: bool = True) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """Return a network with kept weights alpha * sign(W), and the state of its file.

    alpha is the sum of the kept |W| divided by int(k n), or by the number of kept weights if all layers share one threshold.
    """
    scores, pruned, state = random_scores(network), copy.deepcopy(network), {}
    ranks = torch.cat([score.abs().flatten() for score in scores.values()]).sort().values
    threshold = ranks[int((1 - KEEP) * len(ranks)) - 1]
    for name, module in layers(pruned):
        state |= {f"{name}.weight": module.weight.clone(), f"{name}.scores": scores[name]}
        mask = top_mask(scores[name], KEEP) if layerwise else (scores[name].abs() > threshold).float()
        divisor = int(KEEP * module.weight.numel()) if layerwise else int(mask.sum())
        module.weight.copy_(module.weight.sign() * mask * ((module.weight.abs() * mask).sum() / divisor))
    return settle(pruned), {**pruned.state_dict(), **state}


BIPROP: dict[str, Callable[[], nn.Module]] = {
    "plain": NETWORKS["cifar-resnet18"],
    "affine": lambda: PostActResNet(head="conv"),
    "resnet50": lambda: PostActResNet((3, 4, 6, 3), width=2, head="conv", affine=False, expansion=4),
}


@pytest.mark.parametrize("layerwise", [True, False])
@pytest.mark.parametrize("name", BIPROP)
def test_logits_of_a_biprop_network_with_one_alpha_per_layer(name: str, layerwise: bool, tmp_path: Path) -> None:
    network, state = prize(seeded(BIPROP[name]), layerwise)
    kind = "SubnetConv" if layerwise else "GlobalSubnetConv"
    imported = load_biprop(
        save_checkpoint({"state_dict": state, "conv_type": kind, "prune_rate": KEEP, "arch": "cResNet18"}, tmp_path), Request("cifar10")
    )
    assert (imported.family, imported.weight_bits, imported.method) == ("sparse-binary", 1, "diffenderfer2021")
    assert imported.taxonomy["scope"] == ("local" if layerwise else "global")
    check(imported, network, tmp_path, LOADER)
    alphas = magnitudes(effective_weights(load_packed(tmp_path / "kept" / "imported.safetensors").model))
    assert alphas is not None
    assert np.allclose(alphas, [float(module.weight.abs().max()) for _, module in layers(network)], rtol=1e-6)


def test_alpha_is_divided_by_the_rounded_down_number_of_kept_weights(tmp_path: Path) -> None:
    network = seeded(BIPROP["plain"])
    _, state = prize(network)
    imported = load_biprop(save_checkpoint({"state_dict": state}, tmp_path), REQUEST)
    weights = network.conv1.weight.numel()
    mask = top_mask(state["conv1.scores"], KEEP)
    assert int(mask.sum()) == int(KEEP * weights) + 1
    alpha = imported.model.network.conv1.weight.abs().max()  # type: ignore[operator,union-attr]
    assert float(alpha) == pytest.approx(float((network.conv1.weight.abs() * mask).sum()) / int(KEEP * weights), rel=1e-6)


def test_requests_that_contradict_the_file_are_errors(tmp_path: Path) -> None:
    _, state = prize(seeded(BIPROP["plain"]))
    with pytest.raises(UsageError, match=r"keep ratio 0\.63, not 0\.5"):
        load_biprop(save_checkpoint({"state_dict": state, "prune_rate": KEEP}, tmp_path), Request("cifar10", keep_ratio=0.5))
    with pytest.raises(UsageError, match="--keep-ratio"):
        load_biprop(save_checkpoint({"state_dict": state}, tmp_path), Request("cifar10"))
    for fields, words in (({"arch": "cResNet18_BinAct"}, "binary"), ({"conv_type": "SampleSubnetConv"}, "SampleSubnetConv")):
        with pytest.raises(DamagedFileError, match=words):
            load_biprop(save_checkpoint({"state_dict": state, **fields}, tmp_path), REQUEST)
