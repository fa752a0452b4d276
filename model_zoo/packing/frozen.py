"""The deployed (frozen) form of a trained classifier: plain convolutions with the effective weights, without latent weights or scores."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import nn

from model_zoo.classifier import Classifier, build_classifier
from model_zoo.fence import inspecting
from model_zoo.layers.bias import Bias
from model_zoo.layers.factored import FactoredConv2d, Factors
from model_zoo.object_hash import object_sha256

# Tensors of a batch norm, in the order in which they are stored; the last two exist only if it is affine.
BATCH_NORM_FIELDS = ("running_mean", "running_var", "weight", "bias")
# Types of tensors that numpy supports.
_NUMPY = {torch.float16, torch.float32, torch.float64, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool}


class BinaryLayer(Protocol):
    """Layer whose convolution weights are computed from other tensors."""

    def effective_weight(self) -> torch.Tensor:
        """Return the weights of the convolution, [out, in, k, k]."""


def convolutions(model: nn.Module) -> list[nn.Module]:
    """Return the convolutions in module order: `nn.Conv2d` and the layers that have `effective_weight`."""
    return [module for module in model.modules() if isinstance(module, nn.Conv2d) or hasattr(module, "effective_weight")]


# torch's layers with weights other than two-dimensional convolutions.
_OTHER_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Bilinear, nn.Embedding)


def weighted_layers(model: nn.Module) -> list[nn.Module]:
    """Return `convolutions` and torch's other layers with weights, in module order; of layers that share a tensor, only the first."""
    return [layers[0] for layers in layers_by_weight(model)]


def layers_by_weight(model: nn.Module) -> list[list[nn.Module]]:
    """Return the layers with weights in module order, those that share a tensor together."""
    convolution_set = set(convolutions(model))
    groups: dict[int, list[nn.Module]] = {}
    for module in model.modules():
        if module in convolution_set or isinstance(module, _OTHER_LAYERS):
            weight = getattr(module, "weight", None)
            address = weight.data_ptr() if isinstance(weight, torch.Tensor) and weight.numel() else id(module)
            groups.setdefault(address, []).append(module)
    return list(groups.values())


def all_weights(model: nn.Module) -> list[np.ndarray]:
    """Return the effective weights, float32, of all `weighted_layers` of a model, which may be wrapped in `model_zoo.fence.Fenced`."""
    with inspecting(model) as network:
        return weights_of(weighted_layers(network))


def dense_weights(model: nn.Module) -> list[torch.Tensor]:
    """Return the weight tensors [out, in, k, k] of the plain convolutions in module order; in a frozen model these are all convolutions."""
    return [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)]


def factors_of(layer: nn.Module) -> Factors | None:
    """Return the stored factors of a factored layer, or of the plain convolution that was frozen from it; None for other layers."""
    return layer.stored() if isinstance(layer, FactoredConv2d) else getattr(layer, "factors", None)


def effective_weights(model: nn.Module) -> list[np.ndarray]:
    """Return the effective weights of all convolutions in module order, float32 [out, in, k, k].

    Values are in {-1, 0, +1} or {-1, +1} for binary layers and arbitrary for dense ones.
    """
    return weights_of(convolutions(model))


def weights_of(layers: Sequence[nn.Module]) -> list[np.ndarray]:
    """Return the effective weights of the given layers, float32, each of the shape of the layer's weight."""
    arrays = []
    for layer in layers:
        if isinstance(layer, FactoredConv2d):
            arrays.append(layer.stored().product().reshape(layer.shape))
            continue
        with torch.no_grad():
            weight = cast(BinaryLayer, layer).effective_weight() if hasattr(layer, "effective_weight") else cast(nn.Conv2d, layer).weight
        # A masked negative sign is -0.0; adding zero makes it +0.0, as in a loaded packed file, so that hashes agree.
        arrays.append(np.ascontiguousarray(weight.detach().cpu().numpy(), dtype=np.float32) + np.float32(0.0))
    return arrays


def batch_norm_tensors(model: nn.Module) -> list[torch.Tensor]:
    """Return statistics and affine parameters of all batch norms, and all biases, in module order and the order of `BATCH_NORM_FIELDS`."""
    norms = (module for module in model.modules() if isinstance(module, (nn.BatchNorm2d, Bias)))
    tensors = (getattr(norm, name, None) for norm in norms for name in BATCH_NORM_FIELDS)
    return [tensor.detach() for tensor in tensors if tensor is not None]


def freeze(model: Classifier, architecture: Mapping[str, Any], affine: bool) -> Classifier:
    """Return a dense classifier with the effective weights and batch norms of `model`, in eval mode, without gradients, on the CPU."""
    factors = [factors_of(layer) for layer in convolutions(model)]
    return assemble(architecture, affine, effective_weights(model), [tensor.cpu() for tensor in batch_norm_tensors(model)], factors)


def assemble(
    architecture: Mapping[str, Any],
    affine: bool,
    weights: list[np.ndarray],
    batch_norm: list[torch.Tensor],
    factors: Sequence[Factors | None] = (),
) -> Classifier:
    """Build the architecture with plain convolutions, frozen and in eval mode, and fill in every tensor.

    `factors` contains one entry per layer: factors are attached to the layer for storage, while the forward pass uses the weight.

    Raises
    ------
    ValueError
        If the number or the shapes of the tensors are not those of the architecture.
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
    """Convolution without weight initialisation, because drawing millions of weights would take as long as decoding them."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


def empty(architecture: Mapping[str, Any], affine: bool) -> Classifier:
    """Return the architecture with plain convolutions, frozen and in eval mode; its weights are uninitialised."""
    model = build_classifier(architecture, partial(_Undrawn, bias=False), affine)
    return model.eval().requires_grad_(False)


def weights_sha256(model: nn.Module) -> str:
    """Return the sha256 of the names, types, shapes and bytes of a model's state, independent of memory layout.

    The number of batches that a batch norm has seen is omitted, because nothing in eval mode depends on it.
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
        raise ValueError(f"a tensor has shape {tuple(source.shape)}, but the architecture needs {tuple(target.shape)}")
    target.copy_(source)
