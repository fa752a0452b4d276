"""Tests of the Flying Bird and Robust Bird adapter: normalisation in the file, masks consistent with zeros, and all networks."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from model_zoo.adapters import Request
from model_zoo.adapters.flying_bird import load_flying_bird
from model_zoo.errors import DamagedFileError, UsageError
from tests.model_zoo.adapters.official import (
    IMAGES,
    NORMS,
    VGG16,
    Normalize,
    PreActResNet,
    WideResNet,
    check,
    damaged_states,
    layers,
    prune,
    save_checkpoint,
    seeded,
)

REQUEST = Request("cifar10")
NORMALISATION = "flying-bird-cifar10"


def content(network: nn.Module, masked: bool = True) -> dict[str, Any]:
    """Return a checkpoint as `main_adv.py` saves it, with masks under `<parameter>_<index of the parameter>`."""
    numbers = {name: number for number, (name, _) in enumerate(network.named_parameters())}
    masks = {f"{name}.weight_{numbers[f'{name}.weight']}": (module.weight != 0).float() for name, module in layers(network)}
    info = {"masks": masks, "lossinfo": [1.0], "name2death_rate": {"a": 0.5}, "prune_epochs": []}
    other_fields = {
        "best_ra": 50.0,
        "epoch": 200,
        "optimizer": {"state": {}},
        "scheduler": {"milestones": [100, 150]},
        "result": {"val_ra": [1.0]},
    }
    return {"state_dict": network.state_dict(), **other_fields, **({"mask_info": info} if masked else {})}


@pytest.mark.parametrize("normalisation", ["flying-bird-cifar10", "flying-bird-cifar100"])
def test_the_normalisation_is_read_from_the_file_and_applied_once(normalisation: str, tmp_path: Path) -> None:
    network = prune(seeded(lambda: PreActResNet(normalisation)))
    imported = load_flying_bird(save_checkpoint(content(network), tmp_path), REQUEST)
    with torch.no_grad():
        assert torch.allclose(imported.model(IMAGES), network(IMAGES), atol=1e-5)
    assert (imported.architecture["name"], imported.family, imported.method) == ("preact-resnet18", "sparse", "chen2022-flying-bird")
    network.normalize = nn.Identity()
    check(imported, network, tmp_path, normalisation)


def test_another_normalisation_is_an_error(tmp_path: Path) -> None:
    network = seeded(PreActResNet)
    network.normalize.std.mul_(1.01)
    with pytest.raises(DamagedFileError, match="normalisation of CIFAR-10"):
        load_flying_bird(save_checkpoint(content(network), tmp_path), REQUEST)
    network.normalize = nn.Identity()
    with pytest.raises(DamagedFileError, match=r"normalize\.mean"):
        load_flying_bird(save_checkpoint(content(network), tmp_path), REQUEST)


class Normalised(nn.Module):
    """A network behind the normalisation layer of the official name, with its parts at the top level."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.normalize = Normalize(NORMALISATION)
        for name, module in network.named_children():
            self.add_module(name, module)
        self.calls = type(network).forward
        self.__dict__.update({name: value for name, value in network.__dict__.items() if name in ("flat", "head")})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.calls(self, self.normalize(x))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "make"),
    [("wide-resnet", lambda: Normalised(WideResNet(dead=False))), ("vgg16", lambda: Normalised(VGG16(flat=True, bias=True)))],
)
def test_the_other_networks_of_the_code(name: str, make: Any, tmp_path: Path) -> None:
    network = prune(seeded(make))
    imported = load_flying_bird(save_checkpoint(content(network), tmp_path), REQUEST)
    with torch.no_grad():
        assert torch.allclose(imported.model(IMAGES), network(IMAGES), atol=1e-5)
    assert imported.architecture["name"] == name and imported.architecture["normalisation"] == NORMALISATION


def test_masks_that_contradict_the_weights_are_errors(tmp_path: Path) -> None:
    network = prune(seeded(PreActResNet))
    saved_content = content(network)
    key = next(name for name in saved_content["mask_info"]["masks"] if name.startswith("layer2.0.conv1"))
    mask = saved_content["mask_info"]["masks"][key]
    mask.flatten()[int(mask.flatten().argmax())] = 0.0
    with pytest.raises(DamagedFileError, match=r"layer2\.0\.conv1\.weight.*found 1 nonzero weights"):
        load_flying_bird(save_checkpoint(saved_content, tmp_path), REQUEST)
    for bad_mask, words in ((mask[:1], "shape"), (mask + 0.5, "zeros and ones")):
        saved_content["mask_info"]["masks"][key] = bad_mask
        with pytest.raises(DamagedFileError, match=words):
            load_flying_bird(save_checkpoint(saved_content, tmp_path), REQUEST)
    saved_content["mask_info"] = {"masks": 3}
    with pytest.raises(DamagedFileError, match="mask_info"):
        load_flying_bird(save_checkpoint(saved_content, tmp_path), REQUEST)


def test_new_connections_with_zero_weight_are_counted(tmp_path: Path) -> None:
    network = prune(seeded(PreActResNet))
    saved_content = content(network)
    mask = saved_content["mask_info"]["masks"]["conv1.weight_0"]
    before = load_flying_bird(save_checkpoint(saved_content, tmp_path), REQUEST)
    assert not before.notes
    mask.flatten()[(mask.flatten() == 0).nonzero()[:3, 0]] = 1.0
    imported = load_flying_bird(save_checkpoint(saved_content, tmp_path), REQUEST)
    assert imported.keep_ratio == before.keep_ratio and imported.notes[0].startswith("3 weights")


def test_masks_of_robust_bird_are_multiplied_in(tmp_path: Path) -> None:
    network = seeded(PreActResNet)
    pruned = prune(seeded(PreActResNet))
    state = {
        name: tensor for name, tensor in pruned.state_dict().items() if name not in {f"{layer}.weight" for layer, _ in layers(network)}
    }
    for (name, dense_layer), (_, pruned_layer) in zip(layers(network), layers(pruned), strict=True):
        state |= {f"{name}.weight_orig": dense_layer.weight, f"{name}.weight_mask": (pruned_layer.weight != 0).float()}
    imported = load_flying_bird(save_checkpoint({"state_dict": state}, tmp_path), REQUEST)
    with torch.no_grad():
        assert torch.allclose(imported.model(IMAGES), pruned(IMAGES), atol=1e-5)
    assert imported.taxonomy["when"] == "before"
    del state["layer1.0.conv1.weight_mask"]
    with pytest.raises(DamagedFileError, match=r"layer1\.0\.conv1\.weight_mask"):
        load_flying_bird(save_checkpoint({"state_dict": state}, tmp_path), REQUEST)


@pytest.mark.parametrize(("state", "words"), damaged_states(seeded(PreActResNet).state_dict(), "layer3.0.shortcut.0"))
def test_a_damaged_state_is_an_error(state: dict[str, torch.Tensor], words: str, tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match=words):
        load_flying_bird(save_checkpoint({"state_dict": state}, tmp_path), REQUEST)


def test_a_shortcut_from_the_raw_input_gives_a_different_network(tmp_path: Path) -> None:
    # Wong et al.'s variant has the same tensors; only the input of the shortcut differs.
    network = seeded(PreActResNet)
    imported = load_flying_bird(save_checkpoint(content(network, masked=False), tmp_path), REQUEST)
    block, images = network.layer2[0], (IMAGES - NORMS[NORMALISATION][0]) / NORMS[NORMALISATION][1]
    with torch.no_grad():
        raw = network.layer1(network.conv1(images))
        outputs = imported.model.network.layer2[0](raw)  # type: ignore[index,operator,union-attr]
        assert torch.allclose(outputs, block(raw), atol=1e-5)
        assert not torch.allclose(outputs, block(raw) - block.shortcut(torch.relu(block.bn1(raw))) + block.shortcut(raw), atol=1e-2)


def test_a_keep_ratio_is_an_error_if_the_file_determines_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="omit --keep-ratio"):
        load_flying_bird(save_checkpoint(content(prune(seeded(PreActResNet))), tmp_path), Request("cifar10", keep_ratio=0.1))
