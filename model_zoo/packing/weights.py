"""Encoding of the weights of all layers as a header and a few flat tensors: the kinds of the packed format.

    kind              tensors                                        content
    signs             signs [scales]                                 one sign bit per weight
    pruned-signs      mask signs [scales]                            a range-coded mask, one sign bit per kept weight
    pruned-drawn      mask [scales]                                  the mask; signs are drawn again from a seed in the header
    float32           dense                                          every weight
    pruned-float32    mask values                                    the mask, and every kept weight
    int8              levels scales                                  every weight as an integer, one scale per output channel
    pruned-int8       mask levels scales                             the mask, the integers of kept weights, one scale per output channel

For the first three kinds, `scales` (float32, one per layer) exists only if the magnitude of some layer's weights is not 1. Factored layers
have a separate kind, `model_zoo.packing.factors`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model_zoo.packing.codec import decode_masks, encode_masks, pack_signs, unpack_signs
from model_zoo.packing.eight_bit import levels_and_scales, restore

# Share of zeros from which weights that are not binary are stored with a mask; below it, the mask costs more than it saves.
SPARSE_FROM = 0.1

Tensors = dict[str, np.ndarray]


def encode(weights: Sequence[np.ndarray], drawn: Mapping[str, Any] | None = None) -> tuple[dict[str, Any], Tensors]:
    """Return the header fields and the tensors of the layers' weights (float32, [out, ...]); the kind follows from the values.

    If `drawn` contains what `model_zoo.packing.drawn` needs to draw the signs again, the signs of pruned binary weights are omitted.
    """
    flat = [array.reshape(-1) for array in weights]
    masks = [array != 0 for array in flat]
    kept = [int(mask.sum()) for mask in masks]
    zeros = 1.0 - sum(kept) / sum(mask.size for mask in masks)
    scales = magnitudes(flat)
    header: dict[str, Any] = {}
    tensors: Tensors = {}
    quantised = levels_and_scales(weights) if scales is None else None
    channels = {"channels": [len(array) for array in weights]}
    if scales is None and zeros < SPARSE_FROM:
        if quantised is not None:
            return {"weights": "int8", **channels}, {"levels": quantised[0], "scales": quantised[1]}
        return {"weights": "float32"}, {"dense": np.concatenate(flat)}
    if zeros:
        header["kept"] = kept
        tensors["mask"] = encode_masks(masks)
    values = np.concatenate([array[mask] for array, mask in zip(flat, masks, strict=True)])
    if quantised is not None:
        levels = quantised[0][np.concatenate(masks)]
        return {"weights": "pruned-int8", **channels, **header}, {**tensors, "levels": levels, "scales": quantised[1]}
    if scales is None:
        return {"weights": "pruned-float32", **header}, {**tensors, "values": values}
    if (scales != 1.0).any():
        tensors["scales"] = scales
    if drawn is not None and zeros:
        return {"weights": "pruned-drawn", "drawn": dict(drawn), **header}, tensors
    tensors["signs"] = pack_signs(values)
    return {"weights": "pruned-signs" if zeros else "signs", **header}, tensors


def decode(header: Mapping[str, Any], tensors: Tensors, sizes: Sequence[int], drawn: Sequence[np.ndarray] = ()) -> list[np.ndarray]:
    """Inverse of `encode`: return one flat float32 array per layer, of the given sizes. Removes the tensors that it reads from `tensors`.

    `drawn` contains the layers' signs for the kind "pruned-drawn", which does not store them.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the tensors do not fit the header and the sizes.
    """
    kind = header["weights"]
    if kind == "float32":
        return _split(exact(tensors.pop("dense"), sum(sizes), np.float32), sizes)
    if kind in ("int8", "pruned-int8"):
        return _eight_bit(header, tensors, sizes)
    if kind == "signs":
        layers = _split(unpack_signs(exact(tensors.pop("signs"), (sum(sizes) + 7) // 8, np.uint8), sum(sizes)), sizes)
    elif kind in ("pruned-signs", "pruned-drawn", "pruned-float32"):
        kept = [int(count) for count in header["kept"]]
        masks = decode_masks(tensors.pop("mask"), sizes, kept)
        if kind == "pruned-drawn":
            values = [signs.reshape(-1)[mask] for signs, mask in zip(drawn, masks, strict=True)]
        elif kind == "pruned-signs":
            values = _split(unpack_signs(exact(tensors.pop("signs"), (sum(kept) + 7) // 8, np.uint8), sum(kept)), kept)
        else:
            values = _split(exact(tensors.pop("values"), sum(kept), np.float32), kept)
        layers = []
        for mask, nonzero in zip(masks, values, strict=True):
            weight = np.zeros(mask.size, np.float32)
            weight[mask] = nonzero
            layers.append(weight)
    else:
        raise ValueError(f"unknown kind of weights {kind!r}")
    if "scales" in tensors:
        layers = [layer * scale for layer, scale in zip(layers, exact(tensors.pop("scales"), len(sizes), np.float32), strict=True)]
    return layers


def _eight_bit(header: Mapping[str, Any], tensors: Tensors, sizes: Sequence[int]) -> list[np.ndarray]:
    channels = [int(count) for count in header["channels"]]
    levels, scales = tensors.pop("levels"), exact(tensors.pop("scales"), sum(channels), np.float32)
    if header["weights"] == "pruned-int8":
        kept = [int(count) for count in header["kept"]]
        mask = np.concatenate(decode_masks(tensors.pop("mask"), sizes, kept))
        values, levels = exact(levels, sum(kept), np.int8), np.zeros(mask.size, np.int8)
        levels[mask] = values
    layers = zip(_split(exact(levels, sum(sizes), np.int8), sizes), _split(scales, channels), strict=True)
    return [restore(layer, layer_scales) for layer, layer_scales in layers]


def value_bits(weights: Sequence[np.ndarray]) -> tuple[int, int]:
    """Return the bits of the value of one kept weight, and the bits of all scales together.

    The value takes one bit if every layer has a single magnitude (with one float per layer if any is not 1), eight bits if weights are
    int8 levels (with one float per output channel), else 32 bits.
    """
    scales = magnitudes(weights)
    if scales is not None:
        return 1, 32 * len(scales) if (scales != 1.0).any() else 0
    quantised = levels_and_scales(weights)
    return (32, 0) if quantised is None else (8, 32 * len(quantised[1]))


def exact(array: np.ndarray, length: int, kind: type[np.generic]) -> np.ndarray:
    """Return `array` if it is flat and has `length` finite values of the type `kind`; raise a ValueError otherwise."""
    if array.ndim != 1 or array.size != length or array.dtype != kind:
        raise ValueError(f"expected a tensor {np.dtype(kind)} [{length}], found {array.dtype} {list(array.shape)}")
    if np.issubdtype(kind, np.floating) and not np.isfinite(array).all():
        raise ValueError(f"a tensor {array.dtype} {list(array.shape)} with values that are not finite")
    return array


def magnitudes(weights: Sequence[np.ndarray]) -> np.ndarray | None:
    """Return the magnitude of each layer's nonzero weights, float32 [layers] (1 for a layer of zeros), or None if a layer has several."""
    scales = []
    for array in weights:
        nonzero = np.abs(array[array != 0])
        if nonzero.size and (nonzero != nonzero[0]).any():
            return None
        scales.append(nonzero[0] if nonzero.size else np.float32(1.0))
    return np.array(scales, np.float32)


def _split(array: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    return np.split(array, np.cumsum(sizes)[:-1])
