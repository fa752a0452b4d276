"""Tests of the HYDRA and HARP adapters: dense files, files with scores, dead blocks of wide ResNets, 2x2 positions of VGG."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from model_zoo.adapters import Request
from model_zoo.adapters.harp import kept_by_rate, load_harp
from model_zoo.adapters.hydra import load_hydra
from model_zoo.errors import DamagedFileError, UsageError
from tests.model_zoo.adapters.official import (
    IMAGES,
    VGG16,
    PostActResNet,
    WideResNet,
    check,
    damaged_states,
    layers,
    prune,
    save_checkpoint,
    seeded,
    settle,
)

REQUEST = Request("cifar10")
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "cifar-resnet18": PostActResNet,
    "cifar-resnet34": lambda: PostActResNet((3, 4, 6, 3)),
    "cifar-resnet50": lambda: PostActResNet((3, 4, 6, 3), width=2, expansion=4),
    "wide-resnet": WideResNet,
    "vgg16": VGG16,
}


def content(network: nn.Module, prefix: str = "module.") -> dict[str, Any]:
    state = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    return {
        "epoch": 100,
        "arch": "x",
        "state_dict": state,
        "best_prec1": torch.tensor(55.0),
        "optimizer": {"state": {}, "param_groups": []},
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_zeros_of_a_dense_file_are_the_mask(name: str, tmp_path: Path) -> None:
    network = prune(seeded(NETWORKS[name]))
    imported = load_hydra(save_checkpoint(content(network), tmp_path), REQUEST)
    assert (imported.architecture["name"], imported.family, imported.method) == (name, "sparse", "sehwag2020")
    check(imported, network, tmp_path, "none")
    weights = [module.weight for layer, module in layers(network) if not layer.startswith("sub_block1")]
    kept = sum(int((weight != 0).sum()) for weight in weights)
    assert imported.keep_ratio == kept / sum(weight.numel() for weight in weights)


def test_the_dead_block_is_excluded_and_reported(tmp_path: Path) -> None:
    network = prune(seeded(WideResNet))
    imported = load_hydra(save_checkpoint(content(network), tmp_path), REQUEST)
    assert imported.left_out == {"sub_block1": sum(parameter.numel() for parameter in network.sub_block1.parameters())}
    for parameter in network.sub_block1.parameters():
        parameter.fill_(7.0)
    assert torch.allclose(imported.model(IMAGES), network(IMAGES), atol=1e-5)


def test_dead_parameters_match_the_published_numbers() -> None:
    # Published: 1,640,672 for WRN-28-10 and 269,216 for WRN-28-4.
    for widths, dead in (((16, 64, 128, 256), 269_216), ((16, 160, 320, 640), 1_640_672)):
        with torch.device("meta"):
            network = WideResNet(widths, count=4)
        assert sum(parameter.numel() for parameter in network.sub_block1.parameters()) == dead


def scored(network: nn.Module, kept: Callable[[str, int], int]) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """Return the network that a file with scores computes, and the state of that file."""
    generator = torch.Generator().manual_seed(2)
    weights, pruned = {}, copy.deepcopy(network)
    for name, module in layers(pruned):
        scores = torch.randn(module.weight.shape, generator=generator)
        weights |= {f"{name}.weight": module.weight.clone(), f"{name}.popup_scores": scores}
        order = scores.abs().flatten().sort().indices
        module.weight.flatten()[order[: scores.numel() - kept(name, scores.numel())]] = 0.0
    return settle(pruned), {**pruned.state_dict(), **weights}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_with_scores_needs_a_keep_ratio(name: str, tmp_path: Path) -> None:
    pruned, state = scored(seeded(NETWORKS[name]), lambda layer, weights: weights - int((1 - 0.63) * weights))
    path = save_checkpoint({"state_dict": state}, tmp_path)
    imported = load_hydra(path, Request("cifar10", keep_ratio=0.63))
    check(imported, pruned, tmp_path, "none")
    assert imported.ties == 0
    with pytest.raises(UsageError, match="has scores"):
        load_hydra(path, REQUEST)
    with pytest.raises(UsageError, match="has no scores"):
        load_hydra(save_checkpoint(content(prune(seeded(NETWORKS[name]))), tmp_path), Request("cifar10", keep_ratio=0.63))


def test_extra_misshapen_and_missing_scores_are_errors(tmp_path: Path) -> None:
    _, state = scored(seeded(PostActResNet), lambda layer, weights: weights // 2 + 1)
    for change, words in (({"other.popup_scores": torch.zeros(1)}, "additional"), ({"conv1.popup_scores": torch.zeros(1)}, "of shape")):
        with pytest.raises(DamagedFileError, match=words):
            load_hydra(save_checkpoint({"state_dict": {**state, **change}}, tmp_path), Request("cifar10", keep_ratio=0.5))
    del state["layer2.0.conv1.popup_scores"]
    with pytest.raises(DamagedFileError, match=r"layer2\.0\.conv1\.scores"):
        load_hydra(save_checkpoint({"state_dict": state}, tmp_path), Request("cifar10", keep_ratio=0.5))


@pytest.mark.parametrize(("state", "words"), damaged_states(seeded(PostActResNet).state_dict(), "layer3.0.conv2"))
def test_a_damaged_state_is_an_error(state: dict[str, torch.Tensor], words: str, tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match=words):
        load_hydra(save_checkpoint({"state_dict": state}, tmp_path), REQUEST)


def test_an_unpruned_network_is_dense(tmp_path: Path) -> None:
    imported = load_hydra(save_checkpoint(seeded(VGG16).state_dict(), tmp_path), REQUEST)
    assert (imported.family, imported.keep_ratio, imported.weight_bits, dict(imported.taxonomy)) == ("dense", None, 32, {})


def rates(network: nn.Module, target: float) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(-2.0 + 0.3 * index) for index, (name, _) in enumerate(layers(network))}


@pytest.mark.parametrize("name", ["cifar-resnet18", "vgg16"])
def test_layers_of_harp_have_their_learned_keep_ratios(name: str, tmp_path: Path) -> None:
    network = seeded(NETWORKS[name])
    learned_rates = rates(network, 0.1)

    def kept(layer: str, weights: int) -> int:
        rate = torch.sigmoid(learned_rates[layer]) * (1 - 0.1 * 0.1) + 0.1 * 0.1
        return weights - int((1 - rate) * weights)

    pruned, state = scored(network, kept)
    state |= {f"{layer}.k_score": rate for layer, rate in learned_rates.items()}
    path = save_checkpoint({"state_dict": state}, tmp_path)
    imported = load_harp(path, Request("cifar10", keep_ratio=0.1))
    check(imported, pruned, tmp_path, "none")
    assert imported.method == "zhao2023"
    looser = load_harp(path, Request("cifar10", keep_ratio=0.9))
    assert not torch.allclose(looser.model(IMAGES), imported.model(IMAGES), atol=1e-2)
    del state["conv1.k_score" if name == "cifar-resnet18" else "features.0.k_score"]
    with pytest.raises(DamagedFileError, match="conv1"):
        load_harp(save_checkpoint({"state_dict": state}, tmp_path), Request("cifar10", keep_ratio=0.1))


def test_keep_ratio_of_a_layer_ranges_from_a_tenth_of_the_target_to_one() -> None:
    assert kept_by_rate(torch.tensor(100.0), 0.1, 1000) == 1000
    assert kept_by_rate(torch.tensor(-100.0), 0.1, 1000) == 10


def test_channel_scores_are_an_error(tmp_path: Path) -> None:
    _, state = scored(seeded(PostActResNet), lambda layer, weights: weights)
    state |= {f"{layer}.k_score": torch.tensor(1.0) for layer, _ in layers(seeded(PostActResNet))}
    state["conv1.popup_scores"] = torch.zeros(1, 3, 1, 1)
    with pytest.raises(DamagedFileError, match=r"conv1\.scores.*of shape"):
        load_harp(save_checkpoint({"state_dict": state}, tmp_path), Request("cifar10", keep_ratio=0.1))


def test_a_dense_harp_file_is_loaded_with_a_note(tmp_path: Path) -> None:
    network = prune(seeded(PostActResNet))
    state = {**network.state_dict(), **{f"{layer}.k_score": torch.tensor(1.0) for layer, _ in layers(network)}}
    imported = load_harp(save_checkpoint({"state_dict": state}, tmp_path), REQUEST)
    check(imported, network, tmp_path, "none")
    assert len(imported.notes) == 1 and "one keep ratio for all layers" in imported.notes[0]
