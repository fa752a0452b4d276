"""A network filled with the tensors of a file, strictly: one that is missing, left over or of another shape is an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from model_zoo.classifier import Classifier
from model_zoo.errors import DamagedFileError
from model_zoo.layers.bias import Bias
from model_zoo.packing.frozen import BATCH_NORM_FIELDS, assemble, empty

# Called with a layer's name and its weights [out, in, k, k]: what the network computes with.
Effective = Callable[[str, torch.Tensor], torch.Tensor]


def fill(
    path: Path,
    state: Mapping[str, torch.Tensor],
    architecture: Mapping[str, Any],
    affine: bool,
    effective: Effective = lambda name, weight: weight,
) -> Classifier:
    """Build the architecture and take every tensor it has out of `state`, by the names of our layers.

    A linear layer's [out, in] is taken for a 1x1 convolution's; the bias of the layer `fc` is `fc.bias`.

    Raises
    ------
    DamagedFileError
        If a tensor is missing, left over, of another shape, or not finite.
    """
    left = dict(state)
    weights: list[np.ndarray] = []
    others: list[torch.Tensor] = []
    for name, module in layers(architecture, affine):
        if isinstance(module, nn.Conv2d):
            weight = effective(name, take(path, left, f"{name}.weight", tuple(module.weight.shape)))
            weights.append(np.ascontiguousarray(weight.numpy(), np.float32) + np.float32(0.0))
        elif isinstance(module, nn.BatchNorm2d):
            fields = [field for field in BATCH_NORM_FIELDS if getattr(module, field) is not None]
            others.extend(take(path, left, f"{name}.{field}", (module.num_features,)) for field in fields)
        elif isinstance(module, Bias):
            others.append(take(path, left, f"{name.removesuffix('_bias')}.bias", tuple(module.bias.shape)))
    nothing_left(path, left, architecture)
    return assemble(architecture, affine, weights, others)


def layers(architecture: Mapping[str, Any], affine: bool) -> Iterator[tuple[str, nn.Module]]:
    """The parts of a network by name, in module order, without memory for their tensors; a UsageError if there is no such network."""
    with torch.device("meta"):
        layout = empty(architecture, affine)
    return ((name.removeprefix("network."), module) for name, module in layout.named_modules())


def take(path: Path, left: dict[str, torch.Tensor], name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Take a tensor of the given shape out of `left`; [out, in] will do for [out, in, 1, 1].

    Raises
    ------
    DamagedFileError
        If it is missing, of another shape, or not finite.
    """
    if name not in left:
        raise DamagedFileError(path, f"a tensor {name!r}", "none of that name")
    tensor = left.pop(name)
    if tuple(tensor.shape) != shape and not (shape[2:] == (1, 1) and tuple(tensor.shape) == shape[:2]):
        raise DamagedFileError(path, f"{name!r} of shape {list(shape)}", f"{list(tensor.shape)}")
    if not torch.isfinite(tensor).all():
        raise DamagedFileError(path, f"finite numbers in {name!r}", "others")
    return tensor.reshape(shape)


def nothing_left(path: Path, left: Mapping[str, Any], architecture: Mapping[str, Any]) -> None:
    """Make sure that every tensor has been taken."""
    if left:
        raise DamagedFileError(path, f"the tensors of {architecture['name']}", f"also {sorted(left)[0]!r}")


def kept_share(model: nn.Module) -> float:
    """Fraction of a frozen model's weights that are not zero."""
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)]
    return sum(int(torch.count_nonzero(weight)) for weight in weights) / sum(weight.numel() for weight in weights)
