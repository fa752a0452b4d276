"""Tests of the networks of the paper and of other methods: sizes, shapes, widths, and errors for invalid descriptions."""

import pytest
import torch
from torch import nn

from model_zoo.architectures import build_network
from model_zoo.architectures.bcs import same_padded
from model_zoo.classifier import NORMALISATIONS, build_classifier
from model_zoo.errors import UnknownNameError, UsageError
from model_zoo.layers.activations import SignSTE
from model_zoo.layers.bias import Bias
from model_zoo.pruning.allocation import layer_keep_counts


def meta_network(**architecture: object) -> nn.Module:
    with torch.device("meta"):
        return build_network(architecture)


def weights_of(network: nn.Module) -> list[int]:
    return [module.weight.numel() for module in network.modules() if isinstance(module, nn.Conv2d)]


@pytest.mark.parametrize(
    ("name", "classes", "weights", "channels"),
    [
        ("cifar-resnet18", 10, 11_164_352, 4_810),
        ("cifar-resnet34", 10, 21_265_088, 8_522),
        ("cifar-resnet34", 100, 21_311_168, 8_612),
        ("cifar-resnet50", 10, 23_467_712, 26_570),
        ("imagenet-resnet34", 100, 21_318_848, 8_612),
        ("imagenet-resnet50", 100, 23_659_712, 26_660),
        ("cifar-small-resnet34-p1", 10, 214_652, 864),
        ("cifar-small-resnet34-p05", 10, 212_021, 945),
        ("cifar-small-resnet34-p01", 100, 201_808, 1_040),
        ("cifar-small-resnet34-p0", 10, 197_678, 946),
        ("cifar-small-resnet18-p01", 10, 99_550, 530),
        ("cifar-small-resnet50-p1", 10, 239_188, 2_697),
        ("cifar-small-resnet50-p01", 10, 227_718, 3_001),
    ],
)
def test_numbers_of_weights_and_batch_norm_channels_match_the_official_networks(
    name: str, classes: int, weights: int, channels: int
) -> None:
    network = meta_network(name=name, classes=classes)
    assert sum(weights_of(network)) == weights
    assert sum(module.num_features for module in network.modules() if isinstance(module, nn.BatchNorm2d)) == channels


def test_networks_of_any_width_map_images_to_logits() -> None:
    images = torch.rand(2, 3, 32, 32)
    for architecture in (
        {"name": "cifar-resnet18", "width": 4},
        {"name": "cifar-resnet8", "width": 4, "stem_stride": 2},
        {"name": "cifar-resnet50", "widths": [2, 3, 4, 5]},
        {"name": "imagenet-resnet18", "width": 4},
        {"name": "cifar-small-resnet18-p1"},
    ):
        assert build_network({"classes": 7, **architecture}).eval()(images).shape == (2, 7)


@pytest.mark.parametrize(("last", "affine"), [("plain", False), ("affine", True), ("none", None)])
def test_the_last_batch_norm_is_applied_to_the_logits(last: str, affine: bool | None) -> None:
    network = build_network({"name": "cifar-resnet8", "classes": 10, "width": 4, "last_batch_norm": last})
    norms = [module for name, module in network.named_modules() if name == "last_bn" and isinstance(module, nn.BatchNorm2d)]
    assert [norm.affine for norm in norms] == ([] if affine is None else [affine])
    logits = network.train()(torch.rand(64, 3, 32, 32))
    if last == "plain":
        assert logits.var(0, unbiased=False).detach() == pytest.approx(torch.ones(10), rel=0.05)


def test_widths_of_small_networks_follow_the_allocation_of_the_pruned_network() -> None:
    network = meta_network(name="cifar-resnet34", classes=10)
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    square = [names.index(f"layer{stage}.1.conv1") for stage in (1, 2, 3, 4)]
    for name, power in (("p01", 0.1), ("p1", 1.0)):
        kept = layer_keep_counts(weights_of(network), 0.01, power)
        small = meta_network(name=f"cifar-small-resnet34-{name}", classes=10)
        convolutions = dict(small.named_modules())
        widths = [len(convolutions[f"layer{stage}.1.conv1"].weight) for stage in (1, 2, 3, 4)]
        assert widths == [round((kept[layer] / 9) ** 0.5) for layer in square]


def test_normalisation_is_inside_the_model() -> None:
    model = build_classifier({"name": "cifar-resnet8", "classes": 10, "width": 4, "normalisation": "cifar10"}).eval()
    images = torch.rand(2, 3, 32, 32)
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in NORMALISATIONS["cifar10"])
    assert torch.equal(model(images), model.network((images - mean) / deviation))
    assert not any(name in ("mean", "deviation") for name in model.state_dict())


def test_invalid_descriptions_are_errors() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean"):
        build_network({"name": "cifar-resnet19", "classes": 10})
    with pytest.raises(UsageError, match="depth"):
        build_network({"name": "cifar-resnet18", "classes": 10, "depth": 3})
    with pytest.raises(UsageError, match="last_batch_norm"):
        build_network({"name": "cifar-resnet18", "classes": 10, "last_batch_norm": "yes"})
    with pytest.raises(UnknownNameError, match="Did you mean 'relu'"):
        build_network({"name": "cifar-resnet18", "classes": 10, "activation": "rel"})
    with pytest.raises(UsageError, match="4 widths"):
        build_network({"name": "cifar-resnet18", "classes": 10, "widths": [1, 2, 3]})


@pytest.mark.parametrize(
    ("architecture", "weights"),
    [
        # Weights of convolutions and linear layers, as published for the dense networks.
        ({"name": "cifar-resnet18", "head_bias": True, "last_batch_norm": "none"}, 11_164_352),
        ({"name": "bcs-resnet34"}, 21_265_088),
        ({"name": "vgg16"}, 15_303_000),
        ({"name": "wide-resnet", "depth": 28, "widths": [16, 64, 128, 256]}, 5_842_000),
        ({"name": "wide-resnet", "depth": 28, "widths": [16, 160, 320, 640]}, 36_461_000),
        ({"name": "wide-resnet", "depth": 34, "widths": [16, 160, 320, 640]}, 46_138_000),
    ],
)
def test_networks_of_other_methods_have_their_published_sizes(architecture: dict[str, object], weights: int) -> None:
    network = meta_network(classes=10, **architecture)
    assert sum(weights_of(network)) == pytest.approx(weights, abs=1000)
    biases = [module for module in network.modules() if isinstance(module, Bias)]
    assert len(biases) == (3 if architecture["name"] == "vgg16" else 1)


NETWORKS: tuple[dict[str, object], ...] = (
    {"name": "cifar-resnet8", "width": 4},
    {"name": "imagenet-resnet50", "width": 2},
    {"name": "cifar-small-resnet18-p1"},
    {"name": "preact-resnet18", "width": 4},
    {"name": "wide-resnet", "depth": 10, "widths": [4, 4, 8, 16]},
    {"name": "vgg16", "widths": [4] * 13, "hidden": [8]},
    {"name": "bcs-resnet18", "width": 4},
    {"name": "bcs-wide-resnet", "depth": 10, "widths": [4, 4, 8, 16]},
)


@pytest.mark.parametrize("architecture", NETWORKS, ids=lambda architecture: architecture["name"])
def test_the_activation_is_part_of_the_architecture(architecture: dict[str, object]) -> None:
    networks = {}
    for name in (None, "relu", "sign-ste"):
        torch.manual_seed(0)
        networks[name] = build_network({"classes": 10, **architecture, **({"activation": name} if name else {})}).eval()
    activations = {
        name: [type(module) for module in network.modules() if isinstance(module, nn.ReLU | SignSTE)] for name, network in networks.items()
    }
    assert activations[None] == activations["relu"] and set(activations["relu"]) == {nn.ReLU}
    assert activations["sign-ste"] == [SignSTE] * len(activations["relu"])
    assert [list(network.state_dict()) for network in networks.values()] == [list(networks[None].state_dict())] * 3
    images = torch.rand(2, 3, 32, 32)
    logits = {name: network(images) for name, network in networks.items()}
    assert torch.equal(logits[None], logits["relu"]) and not torch.allclose(logits["relu"], logits["sign-ste"])


@pytest.mark.parametrize("size", [32, 31])
def test_same_padding_gives_the_output_size_of_tensorflow(size: int) -> None:
    layer = same_padded(lambda *sizes, **placed: nn.Conv2d(*sizes, bias=False, **placed))(3, 4, 3, stride=2, padding=1)
    images = torch.rand(1, 3, size, size)
    assert layer(images).shape == (1, 4, (size + 1) // 2, (size + 1) // 2)
    # An even size is padded on the right and at the bottom only, an odd size on all sides.
    before, after = (0, 1) if size % 2 == 0 else (1, 1)
    padded = nn.functional.pad(images, (before, after, before, after))
    assert torch.equal(layer(images), nn.functional.conv2d(padded, layer.convolution.weight, stride=2))  # type: ignore[arg-type,union-attr]


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ({"name": "wide-resnet", "depth": 27, "widths": [16, 16, 32, 64]}, "6 n"),
        ({"name": "wide-resnet", "depth": 28, "widths": [16, 16, 32]}, "four widths"),
        ({"name": "vgg16", "widths": [4]}, "13 widths"),
        ({"name": "vgg16", "pool": "median"}, "keep-2x2"),
        ({"name": "preact-resnet18", "widths": [4]}, "4 widths"),
    ],
)
def test_invalid_sizes_of_these_networks_are_errors(architecture: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build_network({"classes": 10, **architecture})
