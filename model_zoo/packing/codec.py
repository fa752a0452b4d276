"""Encoding of signs and masks as bytes: packed sign bits, and masks range-coded with the density of each layer."""

from __future__ import annotations

from collections.abc import Sequence

import constriction
import numpy as np


def pack_signs(signs: np.ndarray) -> np.ndarray:
    """Pack signs (-1 or +1, any shape) into uint8 bytes, one bit per sign with +1 as 1; the last byte is padded with zeros."""
    return np.packbits(signs.reshape(-1) > 0)


def unpack_signs(packed: np.ndarray, count: int) -> np.ndarray:
    """Inverse of `pack_signs`: return float32 [count] of -1 and +1."""
    bits = np.unpackbits(packed, count=count)
    return bits.astype(np.float32) * 2.0 - 1.0


def encode_masks(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Range-code masks (bool, any shapes) one after the other into uint32 words.

    Each layer is coded with its density, which the decoder computes from the layer's kept count, so that the length of the stream
    approaches the sum of the layers' binary entropies n H(m / n).
    """
    encoder = constriction.stream.queue.RangeEncoder()
    for mask in masks:
        flat = np.ascontiguousarray(mask, dtype=np.int32).reshape(-1)
        kept = int(flat.sum())
        if 0 < kept < flat.size:
            encoder.encode(flat, _density(kept, flat.size))
    return np.asarray(encoder.get_compressed(), dtype=np.uint32)


def decode_masks(words: np.ndarray, sizes: Sequence[int], kept: Sequence[int]) -> list[np.ndarray]:
    """Inverse of `encode_masks`: return one flat bool array per layer, given the layers' sizes and kept counts.

    Raises
    ------
    ValueError
        If the stream does not decode to masks with those counts (a damaged file).
    """
    if words.ndim != 1 or words.dtype != np.uint32:
        raise ValueError(f"expected a mask of uint32 words, found {words.dtype} {list(words.shape)}")
    decoder = constriction.stream.queue.RangeDecoder(np.ascontiguousarray(words))
    masks = []
    for size, count in zip(sizes, kept, strict=True):
        if 0 < count < size:
            try:
                mask = np.asarray(decoder.decode(_density(count, size), size)).astype(bool)
            except AssertionError as error:
                raise ValueError(f"the mask stream does not decode: {error}") from None
        else:
            mask = np.full(size, count == size)
        if int(mask.sum()) != count:
            raise ValueError(f"a mask of {size} weights keeps {int(mask.sum())}, but the header says {count}")
        masks.append(mask)
    return masks


def _density(kept: int, size: int) -> constriction.stream.model.Bernoulli:
    return constriction.stream.model.Bernoulli(kept / size, perfect=False)
