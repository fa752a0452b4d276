"""Encoding of factored layers (ATMC) as flat tensors.

Each layer has three tensors, U, V and C in that order (`model_zoo.layers.factored`). `mask` contains the positions of their nonzero
entries, range-coded; `codebooks` (float32) the sorted distinct nonzero values of each tensor, one tensor after the other; `codes` the index
into the codebook of every nonzero entry, in as many bits as the tensor's codebook needs. The header has the number of nonzero entries
(`kept`) and of distinct values (`values`) of every tensor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from torch import nn

from model_zoo.layers.factored import Factors, factor_shapes
from model_zoo.packing.codec import decode_masks, encode_masks
from model_zoo.packing.frozen import convolutions, factors_of
from model_zoo.packing.weights import Tensors, exact

KIND = "factors"


def stored_factors(model: nn.Module) -> list[Factors]:
    """Return the factors of all layers of a network, frozen or not, in module order; empty if its layers have none."""
    candidates = [factors_of(layer) for layer in convolutions(model)]
    return [factors for factors in candidates if factors is not None]


def code_bits(values: int) -> int:
    """Return the bits of one code for a codebook of `values` values: ceil(log2 values), 0 for at most one value."""
    return math.ceil(math.log2(values)) if values > 1 else 0


def value_counts(layers: Sequence[Factors]) -> tuple[list[tuple[int, int, int]], int]:
    """Return, per tensor, the number of entries, of nonzero entries and of bits per code; and the bits of all codebooks together."""
    counts, codebook_bits = [], 0
    for part in (part for factors in layers for part in factors.tensors()):
        values = len(np.unique(part[part != 0]))
        counts.append((part.size, int(np.count_nonzero(part)), code_bits(values)))
        codebook_bits += 32 * values
    return counts, codebook_bits


def encode_factors(layers: Sequence[Factors]) -> tuple[dict[str, Any], Tensors]:
    """Return the header fields and the tensors of factored layers, as the module describes them."""
    parts = [part.reshape(-1) for factors in layers for part in factors.tensors()]
    masks = [part != 0 for part in parts]
    codebooks, codes = [], []
    for part, mask in zip(parts, masks, strict=True):
        values, members = np.unique(part[mask], return_inverse=True)
        codebooks.append(values)
        codes.append(_to_bits(members, code_bits(len(values))))
    header = {"weights": KIND, "kept": [int(mask.sum()) for mask in masks], "values": [len(values) for values in codebooks]}
    tensors = {"mask": encode_masks(masks), "codebooks": np.concatenate(codebooks), "codes": np.packbits(np.concatenate(codes))}
    return header, tensors


def decode_factors(header: Mapping[str, Any], tensors: Tensors, shapes: Sequence[tuple[int, ...]]) -> list[Factors]:
    """Inverse of `encode_factors`, given the layers' shapes [out, in, k, k]. Removes the tensors that it reads from `tensors`.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the tensors do not fit the header and the shapes.
    """
    part_shapes = [shape for layer in shapes for shape in factor_shapes(layer)]
    kept, codebook_sizes = ([int(count) for count in header[name]] for name in ("kept", "values"))
    masks = decode_masks(tensors.pop("mask"), [rows * columns for rows, columns in part_shapes], kept)
    codebooks = np.split(exact(tensors.pop("codebooks"), sum(codebook_sizes), np.float32), list(accumulate(codebook_sizes))[:-1])
    widths = [count * code_bits(codebook_size) for count, codebook_size in zip(kept, codebook_sizes, strict=True)]
    packed = exact(tensors.pop("codes"), (sum(widths) + 7) // 8, np.uint8)
    codes = np.split(np.unpackbits(packed, count=sum(widths)), list(accumulate(widths))[:-1])
    parts = []
    for shape, mask, values, bits in zip(part_shapes, masks, codebooks, codes, strict=True):
        part = np.zeros(mask.size, np.float32)
        part[mask] = _look_up(values, _from_bits(bits, code_bits(len(values)), int(mask.sum())))
        parts.append(part.reshape(shape))
    return [Factors(*parts[first : first + 3]) for first in range(0, len(parts), 3)]


def _look_up(values: np.ndarray, members: np.ndarray) -> np.ndarray:
    if members.size and int(members.max()) >= len(values):
        raise ValueError(f"a code refers to value {int(members.max())} of a codebook of {len(values)}")
    return values[members]


def _to_bits(numbers: np.ndarray, width: int) -> np.ndarray:
    """Return `width` bits per number, most significant bit first, as one flat uint8 array."""
    return ((numbers[:, None] >> np.arange(width - 1, -1, -1)) & 1).astype(np.uint8).reshape(-1)


def _from_bits(bits: np.ndarray, width: int, count: int) -> np.ndarray:
    """Inverse of `_to_bits`."""
    return bits.reshape(count, width).astype(np.int64) @ (1 << np.arange(width - 1, -1, -1, dtype=np.int64))
