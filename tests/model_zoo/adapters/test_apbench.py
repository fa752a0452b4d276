"""Tests of the AdversarialPruningBenchmark adapter: the file name determines the network, and contradicting tensors are reported."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from model_zoo.adapters import Request
from model_zoo.adapters.apbench import ADAPTER, METHODS, Key, load_apbench
from model_zoo.adapters.published import published_files
from model_zoo.errors import DamagedFileError, UnknownNameError, UsageError
from tests.model_zoo.adapters.official import IMAGES, VGG16, PostActResNet, PreActResNet, check, layers, prune, save_checkpoint, seeded
from tests.model_zoo.adapters.test_tickets import ticket

REQUEST = Request("cifar10")


def save_as(content: object, folder: Path, name: str) -> Path:
    return save_checkpoint(content, folder, f"{name}.pth.tar")


@pytest.mark.parametrize("key", ["state_dict", "net"])
@pytest.mark.parametrize(
    ("name", "make", "prefix"),
    [
        ("RADMM_Ye2019Adversarial_R18_CIFAR10_S_50", PostActResNet, "module."),
        ("PwoA_Jian2022Pruning_R18_CIFAR10_US_99", PostActResNet, ""),
        ("PwoA_Jian2022Pruning_V16_CIFAR10_US_99", lambda: VGG16(bias=True), ""),
        ("Li20_Li2020Towards_R18_CIFAR10_US_95", PostActResNet, "model."),
        ("TwinRep_Li2023Learning_V16_CIFAR10_US_90", lambda: VGG16(flat=True), ""),
        ("RADMM_Ye2019Adversarial_V16_CIFAR10_US_90", lambda: VGG16(flat=True, bias=True), ""),
        ("HYDRA_Sehwag2020Hydra_R18_CIFAR10_US_95", PostActResNet, ""),
        ("HARP_Zhao2023Holistic_V16_CIFAR10_US_90", VGG16, ""),
    ],
)
def test_weights_with_zeros_are_loaded_without_normalisation(
    name: str, make: Callable[[], nn.Module], prefix: str, key: str, tmp_path: Path
) -> None:
    network = prune(seeded(make))
    path = save_as({key: {prefix + layer: tensor for layer, tensor in network.state_dict().items()}}, tmp_path, name)
    imported = load_apbench(path, Request("cifar10", name))
    check(imported, network, tmp_path, "none")
    assert imported.taxonomy["structured"] == ("_S_" in name)
    # The small test networks have another keep ratio than the name says, which a note reports.
    assert any("per cent of the weights are kept" in note for note in imported.notes)


class Mad(VGG16):
    """VGG of MAD: its normalisation is not in the state, and average pooling replaces the last max-pooling."""

    def __init__(self) -> None:
        super().__init__(flat=True)
        self.feature = self.features[:-1]
        del self.features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(F.avg_pool2d(self.feature(x), 2).flatten(1))


@pytest.mark.parametrize(("network", "make"), [("V16", Mad), ("R18", PostActResNet)])
def test_factors_and_normalisation_of_mad(network: str, make: Callable[[], nn.Module], tmp_path: Path) -> None:
    masked = prune(seeded(make))
    state = dict(masked.state_dict())
    for name, module in layers(masked):
        state[f"{name}.mask_weight"] = torch.full(module.weight.shape, math.log(math.e - 1))
    name = f"MAD_Lee2022Masking_{network}_CIFAR10_US_90"
    # MAD's files contain the arguments of the training command.
    path = save_as({"net": state, "acc": 70.0, "args": argparse.Namespace(network="vgg", depth=16)}, tmp_path, name)
    check(load_apbench(path, Request("cifar10", name)), masked, tmp_path, "cifar10")
    key = f"{'feature.0' if network == 'V16' else 'conv1'}.mask_weight"
    state[key] = state[key] - 1.0
    shifted = load_apbench(save_as({"net": state}, tmp_path, name), Request("cifar10", name))
    factor = math.log(1 + (math.e - 1) / math.e)
    weights = next(module.weight for module in shifted.model.modules() if isinstance(module, nn.Conv2d))
    assert torch.allclose(weights, masked.state_dict()[key.replace("mask_weight", "weight")] * factor, rtol=1e-5)
    with pytest.raises(DamagedFileError, match="additional"):
        load_apbench(save_as({"net": {**state, "x.running_mean": torch.zeros(1)}}, tmp_path, name), Request("cifar10", name))
    with pytest.raises(DamagedFileError, match="of shape"):
        load_apbench(save_as({"net": {**state, key: torch.zeros(1)}}, tmp_path, name), Request("cifar10", name))


def test_normalisation_of_flying_bird_is_read_from_the_file(tmp_path: Path) -> None:
    network = prune(seeded(PreActResNet))
    name = "FlyingBird_Chen2021Sparsity_R18_CIFAR10_US_95"
    imported = load_apbench(save_as({"state_dict": network.state_dict()}, tmp_path, name), Request("cifar10", name))
    with torch.no_grad():
        assert torch.allclose(imported.model(IMAGES), network(IMAGES), atol=1e-5)
    network.normalize = nn.Identity()
    check(imported, network, tmp_path, "flying-bird-cifar10")


def test_keep_ratio_of_a_ticket_is_read_from_the_name(tmp_path: Path) -> None:
    network, state = ticket(seeded(lambda: PostActResNet(head="conv", affine=False)))
    # The name gives the pruned share, 37 per cent, so 63 per cent of the weights are kept.
    name = "RST_Fu2021Drawing_R18_CIFAR10_US_37"
    imported = load_apbench(save_as({"state_dict": state}, tmp_path, name), Request("cifar10", name))
    check(imported, network, tmp_path, "edge-popup-loader")
    assert any("compare the clean accuracy first" in note for note in imported.notes)
    assert not any("per cent of the weights are kept" in note for note in imported.notes)
    with pytest.raises(UsageError, match=r"keep ratio 0\.63 in its name, not 0\.5"):
        load_apbench(tmp_path / f"{name}.pth.tar", Request("cifar10", name, keep_ratio=0.5))


def test_a_file_that_contradicts_its_name_is_an_error(tmp_path: Path) -> None:
    name = "HYDRA_Sehwag2020Hydra_R18_CIFAR10_US_90"
    path = save_as({"state_dict": prune(seeded(VGG16)).state_dict()}, tmp_path, name)
    with pytest.raises(DamagedFileError, match=r"a R18, as its name says, found vgg16.*published twice"):
        load_apbench(path, Request("cifar10", name))


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("model_best", UsageError, "not a name of the benchmark"),
        ("HYDRO_Sehwag2020Hydra_R18_CIFAR10_US_90", UnknownNameError, "HYDRA"),
        ("HYDRA_Sehwag2020Hydra_R18_SVHN_US_90", UsageError, "SVHN"),
    ],
)
def test_an_unknown_name_is_an_error(name: str, error: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=words):
        load_apbench(save_as({"state_dict": {}}, tmp_path, name), Request("cifar10", name))


def test_every_published_name_can_be_parsed() -> None:
    names = [row.name for row in published_files(ADAPTER.name)]
    assert len(names) == 84 and {Key.parse(name).method for name in names} == METHODS.keys()
    assert {name for name in names if names.count(name) > 1} == {"HYDRA_Sehwag2020Hydra_R18_CIFAR10_US_90"}
    assert Key.parse("HARP_Zhao2023Holistic_V16_CIFAR10_S_75.pth.tar") == Key("HARP", "V16", "CIFAR10", True, 0.25)
    assert len({row.file for row in published_files(ADAPTER.name)}) == len({row.link for row in published_files(ADAPTER.name)}) == 84
