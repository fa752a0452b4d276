"""Recognition of the architecture of a state dict, and translation of its tensors' names to those of our layers.

Names and shapes of some tensors decide. Any remaining difference is detected by `fill`, which accepts all tensors or none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model_zoo.errors import DamagedFileError

State = Mapping[str, torch.Tensor]
POST_ACTIVATION: dict[tuple[bool, tuple[int, ...]], int] = {
    (False, (1, 1, 1)): 8,
    (False, (2, 2, 2, 2)): 18,
    (False, (3, 4, 6, 3)): 34,
    (True, (3, 4, 6, 3)): 50,
}
PRE_ACTIVATION: dict[tuple[int, ...], int] = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 34}
# Names of the classifier in the official codes.
HEADS = ("linear", "fc", "classifier")


@dataclass(frozen=True)
class Recognised:
    """Architecture without its normalisation, whether its batch norms have scales and shifts, and the function that renames tensors."""

    architecture: dict[str, Any]
    affine: bool
    rename: Callable[[str], str]

    def renamed(self, state: State) -> dict[str, torch.Tensor]:
        """Return the tensors under our names."""
        return {self.rename(name): tensor for name, tensor in state.items()}


def recognise(path: Path, state: State, pool: str = "max") -> Recognised:
    """Recognise the architecture of a state dict without prefixes, masks and scores; `path` is used in error messages.

    Parameters
    ----------
    pool : {"max", "average"}
        Final pooling of a VGG-16, which its tensors do not determine unless its first linear layer takes 2x2 positions.

    Raises
    ------
    DamagedFileError
        If the architecture is not a supported ResNet, PreActResNet, WideResNet or VGG-16.
    """
    if any(name.startswith("block1.") for name in state):
        return _wide_resnet(path, state)
    if "layer1.0.conv1.weight" in state:
        return _resnet(path, state)
    if sum(tensor.ndim == 4 for tensor in state.values()) >= 13:
        return _vgg(path, state, pool)
    raise DamagedFileError(path, "a ResNet, PreActResNet, WideResNet or VGG-16", f"a network with {sorted(state)[0]!r}")


def _canonical(name: str) -> str:
    """Return our name of a tensor of a residual network."""
    first, dot, rest = name.partition(".")
    name = f"fc{dot}{rest}" if first in HEADS else name
    for old, new in ((".convShortcut.", ".shortcut."), (".downsample.", ".shortcut."), (".layer.", ".")):
        name = name.replace(old, new)
    return name


def _preact(name: str) -> str:
    return _canonical(name).replace(".shortcut.0.", ".shortcut.")


def _imagenet(name: str) -> str:
    return _canonical(name).replace(".shortcut.", ".downsample.")


def _resnet(path: Path, state: State) -> Recognised:
    is_preact = "bn.running_mean" in state
    is_imagenet = "conv1.weight" in state and tuple(state["conv1.weight"].shape[2:]) == (7, 7)
    rename = _preact if is_preact else _imagenet if is_imagenet else _canonical
    renamed = {rename(name): tensor for name, tensor in state.items()}
    depths = _depths(renamed, r"layer(\d+)\.(\d+)\.")
    is_bottleneck = "layer1.0.conv3.weight" in renamed
    depth = PRE_ACTIVATION.get(depths) if is_preact else POST_ACTIVATION.get((is_bottleneck, depths))
    if depth is None:
        raise DamagedFileError(path, "a ResNet-18, -34 or -50", f"stages of {', '.join(map(str, depths))} blocks")
    widths = [_outputs(path, renamed, f"layer{stage}.0.conv{2 if is_bottleneck else 1}.weight") for stage in range(1, len(depths) + 1)]
    architecture = {
        "name": f"{'preact' if is_preact else 'imagenet' if is_imagenet else 'cifar'}-resnet{depth}",
        "classes": _outputs(path, renamed, "fc.weight"),
        **_width_fields(widths),
    }
    architecture |= {"head_bias": "fc.bias" in renamed} | ({} if is_preact else {"last_batch_norm": "none"})
    return Recognised(architecture, "layer1.0.bn1.weight" in renamed, rename)


def _wide_resnet(path: Path, state: State) -> Recognised:
    renamed = {_canonical(name): tensor for name, tensor in state.items()}
    depths = _depths(renamed, r"block(\d+)\.(\d+)\.")
    if len(depths) != 3 or len(set(depths)) != 1:
        raise DamagedFileError(path, "a WideResNet of three equal blocks", f"blocks of {', '.join(map(str, depths))}")
    widths = [_outputs(path, renamed, name) for name in ("conv1.weight", *(f"block{block}.0.conv1.weight" for block in (1, 2, 3)))]
    classes = _outputs(path, renamed, "fc.weight")
    architecture = {
        "name": "wide-resnet",
        "classes": classes,
        "depth": 6 * depths[0] + 4,
        "widths": widths,
        "head_bias": "fc.bias" in renamed,
    }
    return Recognised(architecture, "block1.0.bn1.weight" in renamed, _canonical)


def _vgg(path: Path, state: State, pool: str) -> Recognised:
    """Recognise a VGG-16 from the order of its layers, whatever their names."""
    counts = {"conv": 0, "bn": 0, "fc": 0}
    new_names: dict[str, str] = {}
    for layer in sorted({name.rpartition(".")[0] for name in state}, key=_natural_order):
        weight = state.get(f"{layer}.weight")
        is_convolution = weight is not None and weight.ndim == 4 and tuple(weight.shape[2:]) == (3, 3)
        kind = "bn" if f"{layer}.running_mean" in state else "conv" if is_convolution else "fc"
        counts[kind] += 1
        new_names[layer] = f"{kind}{counts[kind]}"

    def rename(name: str) -> str:
        layer, _, field = name.rpartition(".")
        return f"{new_names.get(layer, layer)}.{field}"

    if counts["conv"] != 13 or not counts["fc"]:
        raise DamagedFileError(path, "a VGG-16", f"{counts['conv']} convolutions and {counts['fc']} linear layers")
    renamed = {rename(name): tensor for name, tensor in state.items()}
    sizes = [_outputs(path, renamed, f"fc{number}.weight") for number in range(1, counts["fc"] + 1)]
    widths = [_outputs(path, renamed, f"conv{number}.weight") for number in range(1, 14)]
    architecture = {
        "name": "vgg16",
        "classes": sizes[-1],
        "widths": widths,
        "hidden": sizes[:-1],
        "pool": "keep-2x2" if renamed["fc1.weight"].shape[1] == 4 * widths[-1] else pool,
        "conv_bias": "conv1.bias" in renamed,
        "head_bias": "fc1.bias" in renamed,
    }
    return Recognised(architecture, "bn1.weight" in renamed, rename)


def _depths(state: State, pattern: str) -> tuple[int, ...]:
    depths: dict[int, int] = {}
    for name in state:
        match = re.match(pattern, name)
        # No known network has longer numbers; such a tensor remains superfluous, and `fill` reports it.
        if match and len(match[1]) < 3 and len(match[2]) < 4:
            depths[int(match[1])] = max(depths.get(int(match[1]), 0), int(match[2]) + 1)
    return tuple(depths.get(stage, 0) for stage in range(1, max(depths, default=0) + 1))


def _outputs(path: Path, state: State, name: str) -> int:
    if name not in state:
        raise DamagedFileError(path, f"a tensor {name!r}", "none of that name")
    if state[name].ndim not in (2, 4):
        raise DamagedFileError(path, f"weights in {name!r}", f"shape {list(state[name].shape)}")
    return int(state[name].shape[0])


def _width_fields(widths: list[int]) -> dict[str, Any]:
    is_doubling = widths == [widths[0] * 2**stage for stage in range(len(widths))]
    return {"width": widths[0]} if is_doubling else {"widths": widths}


def _natural_order(name: str) -> list[tuple[bool, int, str]]:
    return [(part.isdigit(), int(part) if part.isdigit() and len(part) < 9 else 0, part) for part in name.split(".")]
