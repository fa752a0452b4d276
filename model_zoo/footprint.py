"""What a model costs: bytes to store, by named convention, bytes of activations, and operations for one image."""

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
from model_zoo.packing.frozen import all_weights, batch_norm_tensors, weighted_layers, weights_of
from model_zoo.packing.weights import value_bits

# What a reader calls the fields of a footprint.
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
    """One layer with weights: a convolution, or a linear one.

    Attributes
    ----------
    name : str
        Its path in the network.
    shape : tuple of int
        [out, in, k, k] of a convolution, [out, in] of a linear layer.
    weights, kept_weights : int
        All of them, and those that are not zero.
    mask_bytes : int
        log2 of the number of masks that keep as many, in bytes; 0 where every weight is kept.
    macs, accumulations : int
        For one image: multiply-accumulates with all weights, and additions (multiply-accumulates, where weights are not binary) with
        those that are not zero.
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
        """Fraction of weights kept."""
        return self.kept_weights / self.weights


@dataclass(frozen=True)
class Footprint:
    """Sizes in bytes unless the name says otherwise.

    All but `file_bytes` and `batch_norm_bytes` count weights alone, those of convolutions and of linear layers.

    Of layers that are stored as factors (`model_zoo.layers.factored`) `weights`, `kept_weights` and operations count the product, which is
    what is computed with; bytes of pruned weights count the factors, a code for every nonzero, and the codebooks.

    Attributes
    ----------
    weights, kept_weights : int
        Weights of the architecture, and those that are not zero.
    dense_float32_bytes : int
        Every weight in 4 bytes.
    dense_one_bit_bytes : int or None
        Every weight in one bit, and a float a layer where its magnitude is not 1; None where a layer has zeros or several magnitudes.
    dense_eight_bit_bytes : int or None
        Every weight in eight bits, and a float for every output channel; None where weights are no levels of int8.
    bitmap_bytes, index_bytes, entropy_bytes : int or None
        A mask bit a weight; ceil(log2 n) index bits a kept weight; or log2 of the number of masks with these counts; each with the
        kept values beside it: one bit where all are -1 or +1 up to one factor a layer, eight where they are levels of int8, else 32, and
        the factors. None where nothing is pruned.
    seed_bytes : int or None
        The entropy of the masks alone, where a seed gives the signs again; None where nothing is pruned, where signs were not drawn at
        random, or for other values than -1, 0 and +1.
    batch_norm_bytes : int
        Statistics, and scales and shifts where there are any, in float32; biases of layers too.
    peak_activation_bytes : int
        Memory for the activations of one image, see `peak_activation_bytes`.
    dense_macs, nonzero_macs : int
        Multiply-accumulates for one image with all weights, and with those that are not zero (additions alone, where weights are
        binary).
    file_bytes : int
        The file as it is on disk: of a packed one header, weights and batch norms.
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
    """Count the footprint of a frozen model stored in `checkpoint`, on images of `input_shape` [C, H, W].

    `drawn` says that the signs of its weights were drawn from a seed and never trained.
    """
    model = unfenced(model)
    weights = all_weights(model)
    layers = measure_layers(model, input_shape)
    total, kept = sum(layer.weights for layer in layers), sum(layer.kept_weights for layer in layers)
    binary = all(bool(np.isin(array, (-1.0, 0.0, 1.0)).all()) for array in weights)
    bits, factor_bits = value_bits(weights)
    counts = [(layer.weights, layer.kept_weights, bits) for layer in layers]
    if factors := stored_factors(model):
        counts, factor_bits = value_counts(factors)
    pruned = any(count < size for size, count, _ in counts)
    entries = sum(size for size, _, _ in counts)
    stored = sum(count * width for _, count, width in counts) + factor_bits
    mask_bits = sum(_log2_binomial(size, count) for size, count, _ in counts)
    index_bits = sum(count * math.ceil(math.log2(size)) for size, count, _ in counts)
    return Footprint(
        weights=total,
        kept_weights=kept,
        dense_float32_bytes=4 * total,
        dense_one_bit_bytes=_bytes(total + factor_bits) if bits == 1 and not pruned else None,
        dense_eight_bit_bytes=_bytes(8 * total + factor_bits) if bits == 8 else None,
        bitmap_bytes=_bytes(entries + stored) if pruned else None,
        index_bytes=_bytes(index_bits + stored) if pruned else None,
        entropy_bytes=_bytes(mask_bits + stored) if pruned else None,
        seed_bytes=_bytes(mask_bits) if drawn and binary and pruned else None,
        batch_norm_bytes=4 * sum(tensor.numel() for tensor in (*batch_norm_tensors(model), *_biases(model))),
        peak_activation_bytes=peak_activation_bytes(model, input_shape),
        dense_macs=sum(layer.macs for layer in layers),
        nonzero_macs=sum(layer.accumulations for layer in layers),
        file_bytes=checkpoint.stat().st_size,
    )


def measure_layers(model: nn.Module, input_shape: Sequence[int] = (3, 32, 32)) -> list[LayerFootprint]:
    """Count every layer with weights of a frozen model, in module order, on images of `input_shape` [C, H, W]."""
    model = unfenced(model)
    names = {module: name for name, module in model.named_modules()}
    found, layers = [], weighted_layers(model)
    for layer, weight, positions in zip(layers, weights_of(layers), _positions(model, layers, input_shape), strict=True):
        kept = int(np.count_nonzero(weight))
        mask_bytes = _bytes(_log2_binomial(weight.size, kept))
        found.append(LayerFootprint(names[layer], weight.shape, weight.size, kept, mask_bytes, weight.size * positions, kept * positions))
    return found


def peak_activation_bytes(model: nn.Module, input_shape: Sequence[int] = (3, 32, 32)) -> int:
    """The most bytes of tensors that a float32 forward pass of one image needs at once.

    Every operation of the stored model (normalisation, convolution, batch norm, ReLU, addition, pooling) writes its result to new memory
    while its inputs are still there. A tensor, the image too, counts from the operation that makes it to the last one that reads it:
    one that a shortcut reads, to the end of its block, and no longer because a variable happens to hold it. Views are not counted
    twice. An engine that folds batch norms or works in place needs less. Weights, statistics and the workspace inside an operation
    are not counted.
    """
    trace = _Trace()
    with torch.no_grad(), trace:
        model(torch.zeros(1, *input_shape))
    return trace.peak()


class _Trace(TorchDispatchMode):
    """Notes for every storage that an operation makes which operation that was, and which is the last to read it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._step = 0
        # By address, which stays unique because the storage is held.
        self._storages: dict[int, torch.UntypedStorage] = {}
        self._made: dict[int, int] = {}
        self._read: dict[int, int] = {}

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._step += 1
        read, made = _storages((args, kwargs)), _storages(result)
        for where in read.keys() & self._made.keys():
            self._read[where] = self._step
        for where in made.keys() - self._made.keys() - read.keys():
            self._storages[where], self._made[where], self._read[where] = made[where], self._step, self._step
        return result

    def peak(self) -> int:
        """The most bytes alive in one operation."""
        change = [0] * (self._step + 2)
        for where, storage in self._storages.items():
            change[self._made[where]] += storage.nbytes()
            change[self._read[where] + 1] -= storage.nbytes()
        return max(accumulate(change))


def _storages(tree: Any) -> dict[int, torch.UntypedStorage]:
    storages = [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
    return {storage._cdata: storage for storage in storages}


def _positions(model: nn.Module, layers: Sequence[nn.Module], input_shape: Sequence[int]) -> list[int]:
    """How often each layer's weights are used for one image; 0 for one that is not reached."""
    found = dict.fromkeys(layers, 0)

    def count(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        # A transposed convolution spreads every input, all others collect every output.
        seen = inputs[0] if isinstance(module, _ConvTransposeNd) else output
        if isinstance(seen, torch.Tensor) and seen.ndim > 1:
            places = seen.shape[1:-1] if isinstance(module, (nn.Linear, nn.Bilinear, nn.Embedding)) else seen.shape[2:]
            found[module] += math.prod(places)

    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        with torch.no_grad():
            model(torch.zeros(1, *input_shape))
    finally:
        for hook in hooks:
            hook.remove()
    return [found[layer] for layer in layers]


def _biases(model: nn.Module) -> list[torch.Tensor]:
    """Those of torch's own layers; this package's are layers of their own."""
    biases = (getattr(layer, "bias", None) for layer in weighted_layers(model))
    return [bias for bias in biases if isinstance(bias, torch.Tensor)]


def _log2_binomial(n: int, k: int) -> float:
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)


def _bytes(bits: float) -> int:
    return math.ceil(bits / 8)
