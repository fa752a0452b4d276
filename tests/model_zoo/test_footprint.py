"""Footprints: the paper's networks have the sizes and operations that were derived for them, and parts add up."""

from pathlib import Path

import pytest
import torch
from torch import nn

from model_zoo.footprint import measure, measure_layers, peak_activation_bytes
from model_zoo.packing.frozen import freeze
from model_zoo.packing.packed import load_packed, pack
from model_zoo.registry import package_folder
from model_zoo.training.recipe import Recipe
from model_zoo.training.trainer import build_model

RECIPE = Recipe.load(package_folder("recipes") / "cifar10-rn34-pruned-binary-k01-p01.toml")


def paper(power: float) -> Recipe:
    return Recipe.from_dict({**RECIPE.to_dict(), "options": {**RECIPE.options, "allocation_power": power}})


@pytest.fixture(scope="module")
def resnet34(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    model = freeze(build_model(RECIPE), RECIPE.architecture, False)
    path = tmp_path_factory.mktemp("rn34") / "model.safetensors"
    path.write_bytes(pack(model, RECIPE.architecture, False, {"id": RECIPE.id}))
    return model, path


def test_resnet34_has_the_sizes_of_the_reference(resnet34: tuple[nn.Module, Path]) -> None:
    found = measure(*resnet34)
    assert (found.weights, found.kept_weights) == (21_265_088, 212_685)
    kib = {name: round(getattr(found, f"{name}_bytes") / 1024, 1) for name in ("bitmap", "index", "entropy", "seed", "batch_norm")}
    assert kib == {"bitmap": 2621.8, "index": 515.0, "entropy": 205.8, "seed": 179.9, "batch_norm": 66.6}
    assert round(found.dense_macs / 1e9, 3) == 1.159 and round(found.nonzero_macs / 1e6, 1) == 49.8


def test_its_packed_file_is_as_small_as_its_information(resnet34: tuple[nn.Module, Path]) -> None:
    model, path = resnet34
    found = measure(model, path)
    assert found.entropy_bytes is not None and found.seed_bytes is not None
    assert found.file_bytes <= 1.03 * (found.entropy_bytes + found.batch_norm_bytes)
    drawn = pack(model, RECIPE.architecture, False, {"id": RECIPE.id}, {"generator": "torch-cpu", "seed": 1234, "weight_init": "binary"})  # type: ignore[arg-type]
    assert len(drawn) <= 1.03 * (found.seed_bytes + found.batch_norm_bytes) <= 255 * 1024
    small = path.with_name("drawn.safetensors")
    small.write_bytes(drawn)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(images)
        assert torch.equal(load_packed(path).model(images), expected)
        assert torch.equal(load_packed(small).model(images), expected)


@pytest.mark.parametrize(("power", "millions"), [(0.0, 57.0), (1.0, 11.6)])
def test_operations_follow_the_allocation(power: float, millions: float) -> None:
    layers = measure_layers(freeze(build_model(paper(power)), RECIPE.architecture, False))
    assert round(sum(layer.accumulations for layer in layers) / 1e6, 1) == millions
    assert [layer.name for layer in layers][:2] == ["network.conv1", "network.layer1.0.conv1"]
    assert layers[0].keep_ratio == layers[0].kept_weights / 1728


def test_the_peak_of_activations_is_that_of_a_pass_one_can_follow() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = (nn.Conv2d(4, 4, 3, padding=1, bias=False) for _ in range(2))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            out = self.first(images)
            out = self.second(out)
            return out + images

    unit = 4 * 4 * 8 * 8
    # The image, the first result and the second: the first is read for the last time before the sum is made, which makes three again.
    assert peak_activation_bytes(Block().eval(), (4, 8, 8)) == 3 * unit
    assert peak_activation_bytes(nn.Sequential(nn.Conv2d(4, 8, 1, bias=False), nn.ReLU()).eval(), (4, 8, 8)) == 4 * unit


def test_the_peak_of_resnet34_is_three_tensors_of_its_first_stage(resnet34: tuple[nn.Module, Path]) -> None:
    # The block's input for the shortcut, what an operation reads, and what it writes: 64 channels of 32 x 32 each.
    assert peak_activation_bytes(resnet34[0]) == measure(*resnet34).peak_activation_bytes == 3 * 4 * 64 * 32 * 32


def test_a_dense_model_has_no_mask_to_store(tmp_path: Path) -> None:
    model = load_packed(package_folder("checkpoints") / "cifar10-rn8w32-dense-binary.safetensors").model
    found = measure(model, package_folder("checkpoints") / "cifar10-rn8w32-dense-binary.safetensors")
    assert found.bitmap_bytes is None and found.entropy_bytes is None and found.seed_bytes is None
    assert found.dense_one_bit_bytes == -(-found.weights // 8)
