"""Tests of footprints: sizes and operations of the paper's networks match the derived values, and parts add up."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from model_zoo.classifier import build_classifier
from model_zoo.footprint import Footprint, measure, measure_layers, peak_activation_bytes
from model_zoo.packing.frozen import assemble, batch_norm_tensors, effective_weights, freeze
from model_zoo.packing.packed import load_packed, pack
from model_zoo.registry import package_folder
from model_zoo.stored_size import stored_size
from model_zoo.training.building import build_model
from model_zoo.training.recipe import Recipe

RECIPE = Recipe.load(package_folder("recipes") / "cifar10-rn34-pruned-binary-k01-p01.toml")


def recipe_with_power(power: float) -> Recipe:
    return Recipe.from_dict({**RECIPE.to_dict(), "options": {**RECIPE.options, "allocation_power": power}})


@pytest.fixture(scope="module")
def resnet34(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    model = freeze(build_model(RECIPE), RECIPE.architecture, False)
    path = tmp_path_factory.mktemp("rn34") / "model.safetensors"
    path.write_bytes(pack(model, RECIPE.architecture, False, {"id": RECIPE.id}))
    return model, path


def test_sizes_of_resnet34_match_the_reference(resnet34: tuple[nn.Module, Path]) -> None:
    footprint = measure(*resnet34, drawn=True)
    assert (footprint.weights, footprint.kept_weights) == (21_265_088, 212_685)
    kib = {name: round(getattr(footprint, f"{name}_bytes") / 1024, 1) for name in ("bitmap", "index", "entropy", "seed", "batch_norm")}
    assert kib == {"bitmap": 2621.8, "index": 515.0, "entropy": 205.8, "seed": 179.9, "batch_norm": 66.6}
    assert round(footprint.dense_macs / 1e9, 3) == 1.159 and round(footprint.nonzero_macs / 1e6, 1) == 49.8


def test_the_packed_file_is_close_to_its_entropy(resnet34: tuple[nn.Module, Path]) -> None:
    model, path = resnet34
    footprint = measure(model, path, drawn=True)
    assert footprint.entropy_bytes is not None and footprint.seed_bytes is not None
    assert footprint.file_bytes <= 1.03 * (footprint.entropy_bytes + footprint.batch_norm_bytes)
    drawn = pack(model, RECIPE.architecture, False, {"id": RECIPE.id}, {"generator": "torch-cpu", "seed": 1234, "weight_init": "binary"})  # type: ignore[arg-type]
    assert len(drawn) <= 1.03 * (footprint.seed_bytes + footprint.batch_norm_bytes) <= 255 * 1024
    small = path.with_name("drawn.safetensors")
    small.write_bytes(drawn)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(images)
        assert torch.equal(load_packed(path).model(images), expected)
        assert torch.equal(load_packed(small).model(images), expected)


@pytest.mark.parametrize(("power", "millions"), [(0.0, 57.0), (1.0, 11.6)])
def test_operations_follow_the_allocation(power: float, millions: float) -> None:
    layers = measure_layers(freeze(build_model(recipe_with_power(power)), RECIPE.architecture, False))
    assert round(sum(layer.accumulations for layer in layers) / 1e6, 1) == millions
    assert [layer.name for layer in layers][:2] == ["network.conv1", "network.layer1.0.conv1"]
    assert layers[0].keep_ratio == layers[0].kept_weights / 1728


def test_peak_activations_of_small_networks() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = (nn.Conv2d(4, 4, 3, padding=1, bias=False) for _ in range(2))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            out = self.first(images)
            out = self.second(out)
            return out + images

    unit = 4 * 4 * 8 * 8
    # The input and both results; the first result is freed before the sum, so again three tensors exist.
    assert peak_activation_bytes(Block().eval(), (4, 8, 8)) == 3 * unit
    assert peak_activation_bytes(nn.Sequential(nn.Conv2d(4, 8, 1, bias=False), nn.ReLU()).eval(), (4, 8, 8)) == 4 * unit


def test_peak_activations_of_resnet34_are_three_tensors_of_the_first_stage(resnet34: tuple[nn.Module, Path]) -> None:
    # The input of the block for the shortcut, the input of an operation and its output: 64 channels of 32 x 32 each.
    assert peak_activation_bytes(resnet34[0]) == measure(*resnet34).peak_activation_bytes == 3 * 4 * 64 * 32 * 32


def test_a_dense_model_has_no_mask(tmp_path: Path) -> None:
    model = load_packed(package_folder("checkpoints") / "cifar10-rn8w32-dense-binary.safetensors").model
    footprint = measure(model, package_folder("checkpoints") / "cifar10-rn8w32-dense-binary.safetensors")
    assert footprint.bitmap_bytes is None and footprint.entropy_bytes is None and footprint.seed_bytes is None
    assert footprint.dense_one_bit_bytes == -(-footprint.weights // 8)


TINY = {"name": "cifar-resnet8", "classes": 10, "width": 4, "normalisation": "none", "last_batch_norm": "none", "head_bias": True}


def measure_changed(change: Callable[[np.ndarray], np.ndarray], folder: Path) -> tuple[Footprint, int, int, float]:
    """Measure a tiny network with changed weights; return its footprint, weights, kept weights, and the entropy of its masks in bits."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_classifier(TINY)
    weights = [change(array) for array in effective_weights(network)]
    model = assemble(TINY, True, weights, batch_norm_tensors(network))
    path = folder / "model.safetensors"
    path.write_bytes(pack(model, TINY, True, {}))
    counts = [(array.size, int(np.count_nonzero(array))) for array in weights]
    bits = sum((math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2) for n, k in counts)
    return measure(model, path), sum(n for n, _ in counts), sum(k for _, k in counts), bits


def zero_half(array: np.ndarray) -> np.ndarray:
    return np.where(np.random.default_rng(array.size).random(array.shape) < 0.5, array, np.float32(0.0)).astype(np.float32)


def test_sparse_float_weights_take_four_bytes_each(tmp_path: Path) -> None:
    footprint, weights, kept, mask = measure_changed(zero_half, tmp_path)
    assert (footprint.bitmap_bytes, footprint.entropy_bytes) == (math.ceil((weights + 32 * kept) / 8), math.ceil((mask + 32 * kept) / 8))
    assert footprint.dense_one_bit_bytes is None and footprint.dense_eight_bit_bytes is None


def test_signs_with_layer_constants_take_one_bit_each_and_one_float_per_layer(tmp_path: Path) -> None:
    def ticket(array: np.ndarray) -> np.ndarray:
        return np.sign(zero_half(array)).astype(np.float32) * np.float32(array.size**-0.5)

    footprint, _, kept, mask = measure_changed(ticket, tmp_path)
    layers = sum(isinstance(module, nn.Conv2d) for module in build_classifier(TINY).modules())
    assert footprint.entropy_bytes == math.ceil((mask + kept + 32 * layers) / 8)
    # The file does not say how the constants were drawn.
    assert footprint.seed_bytes is None
    dense, weights, _, _ = measure_changed(lambda array: np.where(array < 0, -0.25, 0.25).astype(np.float32), tmp_path)
    assert dense.dense_one_bit_bytes == math.ceil((weights + 32 * layers) / 8)


def test_eight_bit_weights_take_one_byte_each_and_one_float_per_channel(tmp_path: Path) -> None:
    def rounded(array: np.ndarray) -> np.ndarray:
        scale = (np.abs(array).max((1, 2, 3), keepdims=True) / 127).astype(np.float32)
        return np.rint(array / scale).astype(np.float32) * scale

    footprint, weights, _, _ = measure_changed(rounded, tmp_path)
    channels = sum(module.out_channels for module in build_classifier(TINY).modules() if isinstance(module, nn.Conv2d))
    assert footprint.dense_eight_bit_bytes == weights + 4 * channels
    assert footprint.file_bytes < footprint.dense_eight_bit_bytes + footprint.batch_norm_bytes + 1000


def test_a_bias_is_counted_with_the_batch_norms(tmp_path: Path) -> None:
    footprint, _, _, _ = measure_changed(zero_half, tmp_path)
    norms = sum(4 * module.num_features for module in build_classifier(TINY).modules() if isinstance(module, nn.BatchNorm2d))
    assert footprint.batch_norm_bytes == 4 * (norms + 10)


def other_network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(392, 10)).eval()


def test_convolutional_and_linear_layers_are_counted(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    footprint = measure(other_network(), tmp_path / "file")
    assert (footprint.weights, footprint.dense_float32_bytes, footprint.batch_norm_bytes, footprint.file_bytes) == (4520, 18080, 72, 5)
    assert footprint.dense_macs == 600 * 49 + 3920 and footprint.bitmap_bytes is None
    rows = measure_layers(other_network())
    assert [(row.shape, row.macs) for row in rows] == [((8, 3, 5, 5), 600 * 49), ((10, 392), 3920)]


def test_transposed_grouped_and_shared_layers() -> None:
    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(3, 4, 2, 2)
            self.grouped = nn.Conv2d(4, 8, 3, groups=4)
            self.one, self.two = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
            self.two.weight = self.one.weight

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            pooled = self.grouped(self.up(images)).mean((2, 3))
            return self.two(self.one(pooled))

    rows = {row.name: row for row in measure_layers(Several().eval(), (3, 8, 8))}
    assert rows["up"].macs == 48 * 64 and rows["grouped"].macs == 72 * 14 * 14
    assert set(rows) == {"up", "grouped", "one"} and rows["one"].weights == 64
    # The shared weights are stored once and used twice.
    assert rows["one"].macs == 128


def test_seed_bytes_require_signs_that_were_drawn(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    model = other_network()
    with torch.no_grad():
        for layer in (model[0], model[3]):
            layer.weight.copy_(torch.where(torch.rand_like(layer.weight) < 0.1, layer.weight.sign(), 0.0))
    trained, drawn = (measure(model, tmp_path / "file", drawn=drawn) for drawn in (False, True))
    assert trained.seed_bytes is None and drawn.seed_bytes is not None and trained.entropy_bytes == drawn.entropy_bytes


def test_bytes_of_a_pruned_network_are_those_of_kept_weights_and_masks() -> None:
    dense, pruned = other_network(), other_network()
    assert stored_size(dense) == (4 * (4520 + 18), "tensors")
    for layer in (pruned[0], pruned[3]):
        prune.l1_unstructured(layer, "weight", 0.9)
    size, convention = stored_size(pruned)
    assert convention == "kept weights and masks" and size == 4 * (60 + 392 + 18) + 600 // 8 + 3920 // 8
    assert stored_size(other_network().half())[0] == 2 * (4520 + 18)


def test_a_mask_in_a_parametrisation_counts_like_one_of_torch_pruning() -> None:
    class Mask(nn.Module):
        def __init__(self, weight: torch.Tensor) -> None:
            super().__init__()
            self.register_buffer("mask", (weight.abs() > weight.abs().quantile(0.9)).float())

        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            masked: torch.Tensor = weight * self.mask
            return masked

    network = other_network()
    for layer in (network[0], network[3]):
        parametrize.register_parametrization(layer, "weight", Mask(layer.weight.detach()))
    assert stored_size(network) == (4 * (60 + 392 + 18) + 600 // 8 + 3920 // 8, "kept weights and masks")
    normed = other_network()
    parametrizations.weight_norm(normed[3])
    assert stored_size(normed) == (4 * (4520 + 18 + 10), "tensors")


def test_memory_that_tensors_share_counts_once() -> None:
    network = nn.Module()
    network.register_buffer("whole", torch.zeros(20, 30))
    network.register_buffer("rows", network.whole[:10])
    network.register_buffer("turned", network.whole.T)
    network.register_buffer("repeated", torch.zeros(1).expand(5000))
    network.register_buffer("every_other", torch.zeros(10)[::2])
    assert stored_size(network) == (4 * (600 + 1 + 5), "tensors")
    tied = other_network()
    prune.l1_unstructured(tied[3], "weight", 0.5)
    once = stored_size(tied)
    tied.register_buffer("same", tied[3].weight_orig.detach())
    assert stored_size(tied) == once


def test_kept_weights_of_sixteen_bits_take_two_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    model = other_network()
    with torch.no_grad():
        for layer in (model[0], model[3]):
            layer.weight.copy_(torch.where(torch.rand_like(layer.weight) < 0.1, layer.weight, 0.0))
    single = measure(model, tmp_path / "file")
    cast = nn.Sequential(Cast(torch.float16), model[0].half(), model[1], model[2], model[3].half())
    half = measure(cast, tmp_path / "file")
    assert single.bitmap_bytes is not None and half.bitmap_bytes == single.bitmap_bytes - 2 * single.kept_weights


class Cast(nn.Module):
    def __init__(self, kind: torch.dtype) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.to(self.kind)
