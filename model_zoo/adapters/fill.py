"""Strict filling of a network with the tensors of a file: a missing, superfluous or misshapen tensor is an error."""

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

# Function from a layer's name and its stored weights [out, in, k, k] to the effective weights of the same shape.
Effective = Callable[[str, torch.Tensor], torch.Tensor]


def fill(
    path: Path,
    state: Mapping[str, torch.Tensor],
    architecture: Mapping[str, Any],
    affine: bool,
    effective: Effective = lambda name, weight: weight,
) -> Classifier:
    """Build the architecture, frozen and in eval mode, and fill it with the tensors of `state`, which have the names of our layers.

    Weights [out, in] of a linear layer are accepted for a 1x1 convolution; the bias of the layer `fc` is `fc.bias`. `effective` computes
    the weights of a layer from the stored ones, for example by a mask. `path` is used in error messages.

    Raises
    ------
    DamagedFileError
        If a tensor is missing, superfluous, of another shape, or not finite.
    """
    remaining = dict(state)
    weights: list[np.ndarray] = []
    batch_norm: list[torch.Tensor] = []
    for name, module in layers(architecture, affine):
        if isinstance(module, nn.Conv2d):
            weight = effective(name, take(path, remaining, f"{name}.weight", tuple(module.weight.shape)))
            weights.append(np.ascontiguousarray(weight.numpy(), np.float32) + np.float32(0.0))
        elif isinstance(module, nn.BatchNorm2d):
            fields = [field for field in BATCH_NORM_FIELDS if getattr(module, field) is not None]
            batch_norm.extend(take(path, remaining, f"{name}.{field}", (module.num_features,)) for field in fields)
        elif isinstance(module, Bias):
            batch_norm.append(take(path, remaining, f"{name.removesuffix('_bias')}.bias", tuple(module.bias.shape)))
    check_all_used(path, remaining, architecture)
    return assemble(architecture, affine, weights, batch_norm)


def layers(architecture: Mapping[str, Any], affine: bool) -> Iterator[tuple[str, nn.Module]]:
    """Iterate over names and modules of an architecture in module order, on the meta device; raises a UsageError for an invalid one."""
    with torch.device("meta"):
        layout = empty(architecture, affine)
    return ((name.removeprefix("network."), module) for name, module in layout.named_modules())


def take(path: Path, remaining: dict[str, torch.Tensor], name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Remove a tensor from `remaining` and return it in the given shape; [out, in] is accepted for [out, in, 1, 1].

    Raises
    ------
    DamagedFileError
        If the tensor is missing, of another shape, or not finite.
    """
    if name not in remaining:
        raise DamagedFileError(path, f"a tensor {name!r}", "none of that name")
    tensor = remaining.pop(name)
    if tuple(tensor.shape) != shape and not (shape[2:] == (1, 1) and tuple(tensor.shape) == shape[:2]):
        raise DamagedFileError(path, f"{name!r} of shape {list(shape)}", f"{list(tensor.shape)}")
    if not torch.isfinite(tensor).all():
        raise DamagedFileError(path, f"finite numbers in {name!r}", "NaN or infinite numbers")
    return tensor.reshape(shape)


def check_all_used(path: Path, remaining: Mapping[str, Any], architecture: Mapping[str, Any]) -> None:
    """Raise a DamagedFileError if `remaining` still contains a tensor."""
    if remaining:
        raise DamagedFileError(path, f"the tensors of {architecture['name']}", f"the additional tensor {sorted(remaining)[0]!r}")


def kept_share(model: nn.Module) -> float:
    """Return the fraction, in [0, 1], of a frozen model's convolution weights that are not zero."""
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)]
    return sum(int(torch.count_nonzero(weight)) for weight in weights) / sum(weight.numel() for weight in weights)
