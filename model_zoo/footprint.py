"""What a model costs to store, by named convention, and its multiply-accumulates for one image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from model_zoo.packing.frozen import batch_norm_tensors, convolutions, effective_weights


@dataclass(frozen=True)
class Footprint:
    """Sizes in bytes unless the name says otherwise. All but `file_bytes` and `batch_norm_bytes` count convolution weights alone.

    Attributes
    ----------
    weights, kept_weights : int
        Convolution weights of the architecture, and those that are not zero.
    dense_float32_bytes : int
        Every weight in 4 bytes.
    dense_one_bit_bytes, bitmap_bytes, index_bytes, entropy_bytes, seed_bytes : int or None
        For binary weights: one bit a weight (None once pruned: three values do not fit); a mask bit a weight and a sign bit a kept one;
        ceil(log2 n) index bits and a sign bit a kept weight; log2 of the number of masks with these counts, and signs; the same
        without signs, where a seed regenerates them. None for weights that are not binary.
    batch_norm_bytes : int
        Statistics, and scales and shifts where there are any, in float32.
    dense_macs, nonzero_macs : int
        Multiply-accumulates for one image with all weights, and with those that are not zero.
    file_bytes : int
        The packed file as it is on disk: header, weights, batch norms.
    """

    weights: int
    kept_weights: int
    dense_float32_bytes: int
    dense_one_bit_bytes: int | None
    bitmap_bytes: int | None
    index_bytes: int | None
    entropy_bytes: int | None
    seed_bytes: int | None
    batch_norm_bytes: int
    dense_macs: int
    nonzero_macs: int
    file_bytes: int


def measure(model: nn.Module, checkpoint: Path, input_shape: Sequence[int] = (3, 32, 32)) -> Footprint:
    """Count the footprint of a frozen model stored in `checkpoint`, on images of `input_shape` [C, H, W]."""
    weights = effective_weights(model)
    sizes = [array.size for array in weights]
    kept = [int(np.count_nonzero(array)) for array in weights]
    binary = all(bool(np.isin(array, (-1.0, 0.0, 1.0)).all()) for array in weights)
    pruned = sum(kept) < sum(sizes)
    mask_bits = sum(_log2_binomial(size, count) for size, count in zip(sizes, kept, strict=True))
    index_bits = sum(count * (math.ceil(math.log2(size)) + 1) for size, count in zip(sizes, kept, strict=True))
    positions = _output_positions(model, input_shape)
    dense_macs = [size * where for size, where in zip(sizes, positions, strict=True)]
    kept_macs = [count * where for count, where in zip(kept, positions, strict=True)]
    return Footprint(
        weights=sum(sizes),
        kept_weights=sum(kept),
        dense_float32_bytes=4 * sum(sizes),
        dense_one_bit_bytes=_bytes(sum(sizes)) if binary and not pruned else None,
        bitmap_bytes=_bytes(sum(sizes) + sum(kept)) if binary else None,
        index_bytes=_bytes(index_bits) if binary else None,
        entropy_bytes=_bytes(mask_bits + sum(kept)) if binary else None,
        seed_bytes=_bytes(mask_bits) if binary else None,
        batch_norm_bytes=4 * sum(tensor.numel() for tensor in batch_norm_tensors(model)),
        dense_macs=sum(dense_macs),
        nonzero_macs=sum(kept_macs),
        file_bytes=checkpoint.stat().st_size,
    )


def _output_positions(model: nn.Module, input_shape: Sequence[int]) -> list[int]:
    found: dict[nn.Module, int] = {}
    layers = convolutions(model)
    hooks = [
        layer.register_forward_hook(lambda module, _, output: found.__setitem__(module, output.shape[-1] * output.shape[-2]))
        for layer in layers
    ]
    try:
        with torch.no_grad():
            model(torch.zeros(1, *input_shape))
    finally:
        for hook in hooks:
            hook.remove()
    return [found[layer] for layer in layers]


def _log2_binomial(n: int, k: int) -> float:
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)


def _bytes(bits: float) -> int:
    return math.ceil(bits / 8)
