"""Footprint of a model: bytes of storage by named convention, bytes of activations, and operations per image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model_zoo.fence import unfenced
from model_zoo.packing.factors import stored_factors, value_counts
from model_zoo.packing.frozen import all_weights, batch_norm_tensors, layers_by_weight, weighted_layers, weights_of
from model_zoo.packing.weights import value_bits

# Labels of the fields of `Footprint` in reports.
LINES = {
    "weights": "weights",
    "kept_weights": "weights kept",
    "dense_float32_bytes": "bytes: dense, float32",
    "dense_one_bit_bytes": "bytes: dense, one bit",
    "dense_eight_bit_bytes": "bytes: dense, eight bits",
    "bitmap_bytes": "bytes: bitmap + kept values",
    "index_bytes": "bytes: indices + kept values",
    "entropy_bytes": "bytes: mask entropy + kept values",
    "seed_bytes": "bytes: mask entropy, signs from a seed",
    "batch_norm_bytes": "bytes: batch norms, biases",
    "file_bytes": "bytes: the file, measured",
    "peak_activation_bytes": "bytes: activations of one image, peak",
    "dense_macs": "multiply-accumulates, dense",
    "nonzero_macs": "accumulations, weights kept",
}


@dataclass(frozen=True)
class LayerFootprint:
    """Counts of one layer with weights, such as a convolution or a linear layer.

    Attributes
    ----------
    name : str
        Path of the layer in the network.
    shape : tuple of int
        Shape of the weight: [out, in, k, k] for a convolution, [out, in] for a linear layer.
    weights, kept_weights : int
        Number of all weights and of nonzero weights.
    mask_bytes : int
        log2 of the number of masks with `kept_weights` ones, in bytes; 0 if every weight is kept.
    macs, accumulations : int
        Operations per image: multiply-accumulates with all weights, and additions with the nonzero weights (multiply-accumulates if
        weights are not binary).
    """

    name: str
    shape: tuple[int, ...]
    weights: int
    kept_weights: int
    mask_bytes: int
    macs: int
    accumulations: int

    @property
    def keep_ratio(self) -> float:
        """Fraction of weights kept, in [0, 1]."""
        return self.kept_weights / self.weights


@dataclass(frozen=True)
class Footprint:
    """Footprint of a model; sizes are in bytes unless the name says otherwise.

    The bytes of weights count those of convolutions, linear layers and torch's other layers with weights, without biases.

    For layers that are stored as factors (`model_zoo.layers.factored`), `weights`, `kept_weights` and operations count the product, which
    the forward pass uses; bytes of pruned weights count the factors, one code per nonzero entry, and the codebooks.

    Attributes
    ----------
    weights, kept_weights : int
        Number of weights of the architecture and of nonzero weights.
    dense_float32_bytes : int
        4 bytes per weight.
    dense_one_bit_bytes : int or None
        One bit per weight, and one float per layer if a magnitude is not 1; None if a layer has zeros or several magnitudes.
    dense_eight_bit_bytes : int or None
        Eight bits per weight and one float per output channel; None if weights are not int8 levels times a scale.
    bitmap_bytes, index_bytes, entropy_bytes : int or None
        A mask as one bit per weight, as ceil(log2 n) index bits per kept weight, or as log2 of the number of masks with these counts; each
        with the kept values: one bit if all are -1 or +1 times one factor per layer, eight bits if they are int8 levels, else the bits of
        the stored type, at most 32; and the factors. None if nothing is pruned.
    seed_bytes : int or None
        Entropy of the masks alone, for a model whose signs can be drawn again from a seed; None if nothing is pruned, if signs were not
        drawn at random, or if weights have values other than -1, 0 and +1.
    batch_norm_bytes : int
        Statistics, scales and shifts of batch norms, and biases of layers, in float32.
    peak_activation_bytes : int
        Memory for the activations of one image, see the function `peak_activation_bytes`.
    dense_macs, nonzero_macs : int
        Multiply-accumulates per image with all weights, and with the nonzero weights (additions alone if weights are binary).
    file_bytes : int
        Size of the file on disk; a packed file contains a header, weights and batch norms.
    """

    weights: int
    kept_weights: int
    dense_float32_bytes: int
    dense_one_bit_bytes: int | None
    dense_eight_bit_bytes: int | None
    bitmap_bytes: int | None
    index_bytes: int | None
    entropy_bytes: int | None
    seed_bytes: int | None
    batch_norm_bytes: int
    peak_activation_bytes: int
    dense_macs: int
    nonzero_macs: int
    file_bytes: int


def measure(model: nn.Module, checkpoint: Path, input_shape: Sequence[int] = (3, 32, 32), drawn: bool = False) -> Footprint:
    """Measure the footprint of a frozen model that is stored in the file `checkpoint`, for images of `input_shape` [C, H, W].

    `drawn` states that the signs of the model's weights were drawn from a seed and never trained.
    """
    model = unfenced(model)
    weights = all_weights(model)
    layers = measure_layers(model, input_shape)
    total, kept = sum(layer.weights for layer in layers), sum(layer.kept_weights for layer in layers)
    is_binary = all(bool(np.isin(array, (-1.0, 0.0, 1.0)).all()) for array in weights)
    bits, factor_bits = value_bits(weights)
    counts = [(layer.weights, layer.kept_weights, min(bits, width)) for layer, width in zip(layers, _stored_bits(model), strict=True)]
    if factors := stored_factors(model):
        counts, factor_bits = value_counts(factors)
    is_pruned = any(count < size for size, count, _ in counts)
    entries = sum(size for size, _, _ in counts)
    stored_bits = sum(count * width for _, count, width in counts) + factor_bits
    mask_bits = sum(_log2_binomial(size, count) for size, count, _ in counts)
    index_bits = sum(count * math.ceil(math.log2(size)) for size, count, _ in counts)
    return Footprint(
        weights=total,
        kept_weights=kept,
        dense_float32_bytes=4 * total,
        dense_one_bit_bytes=_bytes(total + factor_bits) if bits == 1 and not is_pruned else None,
        dense_eight_bit_bytes=_bytes(8 * total + factor_bits) if bits == 8 else None,
        bitmap_bytes=_bytes(entries + stored_bits) if is_pruned else None,
        index_bytes=_bytes(index_bits + stored_bits) if is_pruned else None,
        entropy_bytes=_bytes(mask_bits + stored_bits) if is_pruned else None,
        seed_bytes=_bytes(mask_bits) if drawn and is_binary and is_pruned else None,
        batch_norm_bytes=4 * sum(tensor.numel() for tensor in (*batch_norm_tensors(model), *_biases(model))),
        peak_activation_bytes=peak_activation_bytes(model, input_shape),
        dense_macs=sum(layer.macs for layer in layers),
        nonzero_macs=sum(layer.accumulations for layer in layers),
        file_bytes=checkpoint.stat().st_size,
    )


def measure_layers(model: nn.Module, input_shape: Sequence[int] = (3, 32, 32)) -> list[LayerFootprint]:
    """Return the counts of every layer with weights of a frozen model, in module order, for images of `input_shape` [C, H, W]."""
    model = unfenced(model)
    names = {module: name for name, module in model.named_modules()}
    footprints, layers = [], weighted_layers(model)
    for layer, weight, positions in zip(layers, weights_of(layers), _positions(model, input_shape), strict=True):
        kept = int(np.count_nonzero(weight))
        mask_bytes = _bytes(_log2_binomial(weight.size, kept))
        footprints.append(
            LayerFootprint(names[layer], weight.shape, weight.size, kept, mask_bytes, weight.size * positions, kept * positions)
        )
    return footprints


def peak_activation_bytes(model: nn.Module, input_shape: Sequence[int] = (3, 32, 32)) -> int:
    """Return the largest number of bytes of tensors that a float32 forward pass of one image [C, H, W] needs at the same time.

    Every operation of the stored model (normalisation, convolution, batch norm, ReLU, addition, pooling) writes its result to new memory
    while its inputs still exist. A tensor, including the image, counts from the operation that makes it to the last operation that reads
    it, even if a variable holds it longer; a tensor that a shortcut reads therefore counts to the end of its block. Views are not counted
    twice. Weights, statistics and the workspace inside an operation are not counted. An engine that folds batch norms or works in place
    needs less.
    """
    trace = _Trace()
    with torch.no_grad(), trace:
        model(torch.zeros(1, *input_shape))
    return trace.peak()


class _Trace(TorchDispatchMode):
    """Dispatch mode that records, for every storage, the operation that makes it and the last operation that reads it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._step = 0
        # Keyed by address, which stays unique because the storage is kept alive.
        self._storages: dict[int, torch.UntypedStorage] = {}
        self._created: dict[int, int] = {}
        self._last_read: dict[int, int] = {}

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._step += 1
        read, written = _storages((args, kwargs)), _storages(result)
        for address in read.keys() & self._created.keys():
            self._last_read[address] = self._step
        for address in written.keys() - self._created.keys() - read.keys():
            self._storages[address], self._created[address], self._last_read[address] = written[address], self._step, self._step
        return result

    def peak(self) -> int:
        """Return the largest number of bytes that are alive during one operation."""
        change = [0] * (self._step + 2)
        for address, storage in self._storages.items():
            change[self._created[address]] += storage.nbytes()
            change[self._last_read[address] + 1] -= storage.nbytes()
        return max(accumulate(change))


def _storages(tree: Any) -> dict[int, torch.UntypedStorage]:
    storages = [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
    return {storage._cdata: storage for storage in storages}


def _positions(model: nn.Module, input_shape: Sequence[int]) -> list[int]:
    """Return how often the weights of each of `weighted_layers` are used for one image; 0 for a layer that is not reached."""
    groups = layers_by_weight(model)
    counts = {layer: 0 for layers in groups for layer in layers}

    def count(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        # A transposed convolution applies its weights at every input position, all other layers at every output position.
        tensor = inputs[0] if isinstance(module, _ConvTransposeNd) else output
        if isinstance(tensor, torch.Tensor) and tensor.ndim > 1:
            sizes = tensor.shape[1:-1] if isinstance(module, (nn.Linear, nn.Bilinear, nn.Embedding)) else tensor.shape[2:]
            counts[module] += math.prod(sizes)

    hooks = [layer.register_forward_hook(count) for layer in counts]
    try:
        with torch.no_grad():
            model(torch.zeros(1, *input_shape))
    finally:
        for hook in hooks:
            hook.remove()
    return [sum(counts[layer] for layer in layers) for layers in groups]


def _stored_bits(model: nn.Module) -> list[int]:
    """Return the bits of the type of every layer's weight; 32 for weights that are computed from other tensors."""
    weights = (getattr(layer, "weight", None) for layer in weighted_layers(model))
    return [8 * weight.element_size() if isinstance(weight, torch.Tensor) else 32 for weight in weights]


def _biases(model: nn.Module) -> list[torch.Tensor]:
    """Return the biases of torch's layers; biases of this package are separate `Bias` layers."""
    biases = (getattr(layer, "bias", None) for layer in weighted_layers(model))
    return [bias for bias in biases if isinstance(bias, torch.Tensor)]


def _log2_binomial(n: int, k: int) -> float:
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)


def _bytes(bits: float) -> int:
    return math.ceil(bits / 8)
