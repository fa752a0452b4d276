"""Small networks written in the style of the official codes of published methods; adapter tests save them and compare logits."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from model_zoo.adapters import Imported
from model_zoo.adapters.keep import keep_imported
from model_zoo.classifier import NORMALISATIONS, Classifier
from model_zoo.loading import load_model
from model_zoo.packing.frozen import weights_sha256
from model_zoo.schema import Threat, TrainedOn


def images(count: int, seed: int) -> torch.Tensor:
    """Return random images of colour patches, [count, 3, 32, 32]; images of uniform noise would have nearly equal averages."""
    return F.interpolate(torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed)), (32, 32))


IMAGES = images(4, 0)
NORMS = {name: tuple(torch.tensor(values).view(1, 3, 1, 1) for values in NORMALISATIONS[name]) for name in NORMALISATIONS}


def norm(channels: int, affine: bool = True) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, affine=affine)


class PostBlock(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, affine: bool, expansion: int) -> None:
        super().__init__()
        out = width * expansion
        if expansion == 1:
            self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        else:
            self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
            self.conv3, self.bn3 = nn.Conv2d(width, out, 1, bias=False), norm(out, affine)
        self.bn1, self.bn2 = norm(width, affine), norm(width, affine)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != out:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, out, 1, stride, bias=False), norm(out, affine))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if hasattr(self, "conv3"):
            out = self.bn3(self.conv3(F.relu(out)))
        return F.relu(out + self.shortcut(x))


class PostActResNet(nn.Module):
    """ResNet of HYDRA, HARP and RADMM (linear layer `linear`), or of robust scratch tickets and biprop (1x1 convolution `fc`)."""

    def __init__(
        self, depths: Sequence[int] = (2, 2, 2, 2), width: int = 4, head: str = "linear", affine: bool = True, expansion: int = 1
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 3, 1, 1, bias=False), norm(width, affine)
        inputs = width
        for stage, depth in enumerate(depths):
            blocks = []
            for index in range(depth):
                blocks.append(PostBlock(inputs, width * 2**stage, 2 if stage and not index else 1, affine, expansion))
                inputs = width * 2**stage * expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.stages = len(depths)
        if head == "linear":
            self.linear = nn.Linear(inputs, 10)
        else:
            self.fc = nn.Conv2d(inputs, 10, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        for stage in range(self.stages):
            out = getattr(self, f"layer{stage + 1}")(out)
        out = F.avg_pool2d(out, out.shape[-1])
        return self.linear(out.flatten(1)) if hasattr(self, "linear") else self.fc(out).flatten(1)


class Normalize(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.register_buffer("mean", NORMS[name][0].flatten().clone())
        self.register_buffer("std", NORMS[name][1].flatten().clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean.view(1, 3, 1, 1)) / self.std.view(1, 3, 1, 1)  # type: ignore[operator]


class PreBlock(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = norm(inputs), nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = norm(width), nn.Conv2d(width, width, 3, 1, 1, bias=False)
        if stride != 1 or inputs != width:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.bn1(x))
        shortcut = self.shortcut(out) if hasattr(self, "shortcut") else x
        return self.conv2(F.relu(self.bn2(self.conv1(out)))) + shortcut


class PreActResNet(nn.Module):
    """Network of Flying Bird and Robust Bird: normalisation inside the network, shortcut after bn1 and ReLU, batch norm at the end."""

    def __init__(self, normalisation: str = "flying-bird-cifar10", width: int = 4) -> None:
        super().__init__()
        self.normalize = Normalize(normalisation)
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        inputs = width
        for stage in range(4):
            out = width * 2**stage
            self.add_module(f"layer{stage + 1}", nn.Sequential(PreBlock(inputs, out, 2 if stage else 1), PreBlock(out, out, 1)))
            inputs = out
        self.bn, self.linear = norm(inputs), nn.Linear(inputs, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.conv1(self.normalize(x))
        for stage in range(4):
            out = getattr(self, f"layer{stage + 1}")(out)
        return self.linear(F.relu(self.bn(out)).mean((2, 3)))


class WideBlock(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, affine: bool) -> None:
        super().__init__()
        self.bn1, self.conv1 = norm(inputs, affine), nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = norm(width, affine), nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.convShortcut = nn.Conv2d(inputs, width, 1, stride, bias=False) if inputs != width else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.bn1(x))
        if self.convShortcut is not None:
            x = self.convShortcut(out)
        return x + self.conv2(F.relu(self.bn2(self.conv1(out))))


class WideGroup(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, affine: bool, count: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            *(WideBlock(width if index else inputs, width, 1 if index else stride, affine) for index in range(count))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


class WideResNet(nn.Module):
    """Wide ResNet of TRADES; if `dead`, with a second first block that `forward` never calls."""

    def __init__(
        self, widths: Sequence[int] = (4, 8, 12, 16), count: int = 2, dead: bool = True, head: str = "linear", affine: bool = True
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.block1 = WideGroup(widths[0], widths[1], 1, affine, count)
        if dead:
            self.sub_block1 = WideGroup(widths[0], widths[1], 1, affine, count)
        self.block2 = WideGroup(widths[1], widths[2], 2, affine, count)
        self.block3 = WideGroup(widths[2], widths[3], 2, affine, count)
        self.bn1 = norm(widths[3], affine)
        self.fc = nn.Linear(widths[3], 10) if head == "linear" else nn.Conv2d(widths[3], 10, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.bn1(self.block3(self.block2(self.block1(self.conv1(x))))))
        out = F.avg_pool2d(out, 8)
        return self.fc(out).flatten(1) if isinstance(self.fc, nn.Conv2d) else self.fc(out.flatten(1))


VGG = (4, 4, "M", 4, 6, "M", 6, 6, 8, "M", 8, 8, 8, "M", 8, 8, 8)


class VGG16(nn.Module):
    """VGG-16 of HYDRA and HARP (2x2 positions, three linear layers); if `flat`, with a fifth max-pooling and one linear layer."""

    def __init__(self, flat: bool = False, bias: bool = False, affine: bool = True, head: str = "linear") -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for width in (*VGG, "M") if flat else VGG:
            if isinstance(width, int):
                layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=bias), norm(width, affine), nn.ReLU()]
                inputs = width
            else:
                layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.flat, self.head = flat, head
        self.classifier: nn.Module = nn.Linear(inputs, 10) if head == "linear" else nn.Conv2d(inputs, 10, 1, bias=False)
        if not flat:
            self.classifier = nn.Sequential(nn.Linear(4 * inputs, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.features(x)
        return self.classifier(out).flatten(1) if self.head == "conv" else self.classifier(torch.flatten(out, 1))


def seeded(make: Callable[[], nn.Module], seed: int = 1) -> Any:
    """Return a network in eval mode with batch-norm statistics of real data and logits that vary between images."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = make()
        for module in network.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=2 * module.in_features**-0.5)
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.9
                if module.affine:
                    nn.init.uniform_(module.weight, 0.5, 1.5)
                    nn.init.uniform_(module.bias, -0.3, 0.3)
    return settle(network)


def settle(network: nn.Module) -> Any:
    """Freeze the network and set its batch-norm statistics on images; with statistics from before pruning, the signal would fade."""
    network.requires_grad_(False).train()(images(32, 3))
    return network.eval()


def layers(network: nn.Module) -> list[tuple[str, Any]]:
    return [(name, module) for name, module in network.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))]


def prune(network: nn.Module, keep_ratio: float = 0.4) -> Any:
    """Keep the largest weights of every layer and set the others to zero."""
    for _, module in layers(network):
        flat = module.weight.abs().flatten()
        count = max(1, int(keep_ratio * flat.numel()))
        module.weight.mul_(module.weight.abs() >= flat.topk(count).values.min())
    return settle(network)


def save_checkpoint(content: object, folder: Path, name: str = "model_best.pth.tar") -> Path:
    path = folder / name
    torch.save(content, path)
    return path


def check(imported: Imported, network: Callable[[torch.Tensor], torch.Tensor], folder: Path, normalisation: str) -> None:
    """Check that logits equal those of the network behind `normalisation`, in memory and packed, and differ for any other normalisation."""
    mean, deviation = NORMS[normalisation]
    expected = network((IMAGES - mean) / deviation)
    # Constant logits would be equal for any adapter.
    assert expected.std(0).mean() > 0.01
    with torch.no_grad():
        # The tolerance is relative to the largest logit, which can be 1e10 in random networks; small logits may differ by the same
        # amount.
        rounding = 1e-5 * max(1.0, float(expected.abs().max()))
        assert torch.allclose(imported.model(IMAGES), expected, atol=rounding)
        record = keep_imported(
            imported,
            folder / "kept",
            name="imported",
            title="imported",
            source="model_best.pth.tar",
            data=TrainedOn(train="cifar10"),
            threat=Threat(norm="Linf", radius="8/255"),
        )
        loaded = load_model(str(folder / "kept" / "imported.toml"))
        assert torch.equal(loaded(IMAGES), imported.model(IMAGES)) and weights_sha256(loaded) == record.weights_sha256
        for name in NORMS.keys() - {normalisation}:
            mismatched = Classifier(imported.model.network, name)
            # The two most similar normalisations differ by less than half a per cent of the pixel range.
            assert (mismatched(IMAGES) - expected).abs().max() > 1e-4, name
    assert imported.architecture["normalisation"] == normalisation


def damaged_states(state: dict[str, torch.Tensor], layer: str) -> list[Any]:
    """Return state dicts in which a tensor of `layer` is missing, extra, misshapen or NaN, each with words of the expected error."""
    incomplete = {name: tensor for name, tensor in state.items() if name != f"{layer}.weight"}
    shape = list(state[f"{layer}.weight"].shape)
    misshapen = torch.zeros([shape[0], shape[1] + 1, *shape[2:]])
    return [
        pytest.param(incomplete, "none of that name", id="missing"),
        pytest.param({**state, "another.weight": torch.zeros(3)}, "additional", id="extra"),
        pytest.param({**state, f"{layer}.weight": misshapen}, "of shape", id="misshapen"),
        pytest.param({**state, f"{layer}.weight": torch.full(shape, float("nan"))}, "finite", id="nan"),
    ]
