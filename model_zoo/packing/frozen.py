"""The deployed form of a trained classifier: plain convolutions holding what is stored, no latent weights, no scores."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import nn

from model_zoo.classifier import Classifier, build_classifier
from model_zoo.fence import unfenced
from model_zoo.layers.bias import Bias
from model_zoo.layers.factored import FactoredConv2d, Factors
from model_zoo.object_hash import object_sha256

# What a batch norm contributes, in this order, where it has it.
BATCH_NORM_FIELDS = ("running_mean", "running_var", "weight", "bias")
# Types of tensors that numpy has too.
_NUMPY = {torch.float16, torch.float32, torch.float64, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool}


class BinaryLayer(Protocol):
    """A layer whose convolution weights are computed from something else."""

    def effective_weight(self) -> torch.Tensor:
        """Return what it convolves with, [out, in, k, k]."""


def convolutions(model: nn.Module) -> list[nn.Module]:
    """The layers with weights, in module order: `nn.Conv2d` and the layers that offer `effective_weight`."""
    return [module for module in model.modules() if isinstance(module, nn.Conv2d) or hasattr(module, "effective_weight")]


# What torch calls layers with weights, beside its convolutions in two dimensions.
_OTHERS = (nn.Linear, nn.Conv1d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Bilinear, nn.Embedding)


def weighted_layers(model: nn.Module) -> list[nn.Module]:
    """Those of `convolutions` and all other layers of torch that have weights, in module order; a tensor shared by two counts once."""
    own = set(convolutions(model))
    layers, seen = [], set[int]()
    for module in model.modules():
        if module in own or isinstance(module, _OTHERS):
            weight = getattr(module, "weight", None)
            where = weight.data_ptr() if isinstance(weight, torch.Tensor) and weight.numel() else id(module)
            if where not in seen:
                seen.add(where)
                layers.append(module)
    return layers


def all_weights(model: nn.Module) -> list[np.ndarray]:
    """What every layer with weights computes with, in a model behind a fence or not."""
    return weights_of(weighted_layers(unfenced(model)))


def dense_weights(model: nn.Module) -> list[torch.Tensor]:
    """The weight tensors of the plain convolutions, in module order: what a frozen model computes with."""
    return [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)]


def factors_of(layer: nn.Module) -> Factors | None:
    """What is stored of a layer whose weight is made of factors: a factored one, or a plain one that came of it; None for others."""
    return layer.stored() if isinstance(layer, FactoredConv2d) else getattr(layer, "factors", None)


def effective_weights(model: nn.Module) -> list[np.ndarray]:
    """What each layer convolves with, float32 [out, in, k, k]: {-1, 0, +1} or {-1, +1} for binary layers, any value for dense ones."""
    return weights_of(convolutions(model))


def weights_of(layers: Sequence[nn.Module]) -> list[np.ndarray]:
    """What each of these layers computes with, float32, as `effective_weights`."""
    arrays = []
    for layer in layers:
        if isinstance(layer, FactoredConv2d):
            arrays.append(layer.stored().product().reshape(layer.shape))
            continue
        with torch.no_grad():
            weight = cast(BinaryLayer, layer).effective_weight() if hasattr(layer, "effective_weight") else cast(nn.Conv2d, layer).weight
        # A masked negative sign is -0.0; adding zero makes it the +0.0 that a packed file gives back, so that hashes agree.
        arrays.append(np.ascontiguousarray(weight.detach().cpu().numpy(), dtype=np.float32) + np.float32(0.0))
    return arrays


def batch_norm_tensors(model: nn.Module) -> list[torch.Tensor]:
    """Statistics and affine parameters of every batch norm, and biases, in module order and the order of `BATCH_NORM_FIELDS`."""
    norms = (module for module in model.modules() if isinstance(module, (nn.BatchNorm2d, Bias)))
    tensors = (getattr(norm, name, None) for norm in norms for name in BATCH_NORM_FIELDS)
    return [tensor.detach() for tensor in tensors if tensor is not None]


def freeze(model: Classifier, architecture: Mapping[str, Any], affine: bool) -> Classifier:
    """A dense classifier with the effective weights and batch norms of `model`: eval mode, nothing to train, on the CPU."""
    factors = [factors_of(layer) for layer in convolutions(model)]
    return assemble(architecture, affine, effective_weights(model), [tensor.cpu() for tensor in batch_norm_tensors(model)], factors)


def assemble(
    architecture: Mapping[str, Any],
    affine: bool,
    weights: list[np.ndarray],
    batch_norm: list[torch.Tensor],
    factors: Sequence[Factors | None] = (),
) -> Classifier:
    """Build the architecture with plain convolutions and fill in every tensor.

    Where `factors` has those of a layer they go along with it: the weight is what is computed with, they are what is stored.

    Raises
    ------
    ValueError
        If the number or a shape of the tensors is not what the architecture has.
    """
    model = empty(architecture, affine)
    with torch.no_grad():
        for target, weight in zip(dense_weights(model), weights, strict=True):
            _fill(target, torch.from_numpy(weight))
        for target, source in zip(batch_norm_tensors(model), batch_norm, strict=True):
            _fill(target, source)
    for layer, stored in zip(convolutions(model), factors, strict=False):
        if stored is not None:
            layer.factors = stored  # type: ignore[assignment]
    return model


class _Undrawn(nn.Conv2d):
    """A plain convolution whose weights are filled in at once: drawing millions first would take as long as decoding them."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


def empty(architecture: Mapping[str, Any], affine: bool) -> Classifier:
    """The architecture with plain convolutions, frozen and in eval mode; its weights hold anything and are still to be filled in."""
    model = build_classifier(architecture, partial(_Undrawn, bias=False), affine)
    return model.eval().requires_grad_(False)


def weights_sha256(model: nn.Module) -> str:
    """Hash of everything the frozen model computes with: names, shapes and float32 bytes of its state, independent of memory layout.

    The count of batches a batch norm has seen is left out: nothing in eval mode depends on it.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name.endswith("num_batches_tracked"):
            continue
        if isinstance(tensor, torch.Tensor) and tensor.dtype in _NUMPY:
            array = np.ascontiguousarray(tensor.detach().cpu().numpy())
            digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            digest.update(array.tobytes())
        else:
            digest.update(f"{name} {object_sha256(tensor)}\n".encode())
    return digest.hexdigest()


def _fill(target: torch.Tensor, source: torch.Tensor) -> None:
    if target.shape != source.shape:
        raise ValueError(f"a tensor of shape {tuple(source.shape)} where the architecture has {tuple(target.shape)}")
    target.copy_(source)
