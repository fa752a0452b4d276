"""The packed checkpoint format, version 1: a safetensors file with one JSON header and a few flat tensors.

    weights = "pruned-signs"    mask    uint32   range-coded, layer after layer
                                signs   uint8    one bit for every kept weight
    weights = "signs"           signs   uint8    one bit for every weight
    weights = "float32"         dense   float32  every weight
    always                      batch_norm  float32  means, variances, and scales and shifts where there are any

Layers and batch norms follow in module order; shapes come from the architecture in the header, so the file cannot be read as
another network by mistake.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from model_zoo.classifier import Classifier
from model_zoo.errors import DamagedFileError, UserError
from model_zoo.packing.codec import decode_masks, encode_masks, pack_signs, unpack_signs
from model_zoo.packing.frozen import assemble, batch_norm_tensors, dense_weights, effective_weights, empty

FORMAT = "robust-binary-packed"
VERSION = 1


@dataclass(frozen=True)
class Packed:
    """A packed checkpoint in memory: the frozen model and the header it came with."""

    model: Classifier
    header: Mapping[str, Any]


def pack(model: Classifier, architecture: Mapping[str, Any], affine: bool, provenance: Mapping[str, Any]) -> bytes:
    """The bytes of a packed checkpoint; the same model and provenance give the same bytes.

    The kind of weights is read off the weights themselves: {-1, +1}, {-1, 0, +1}, or anything else.
    """
    weights = effective_weights(model)
    values = set(np.unique(np.concatenate([np.unique(array) for array in weights])).tolist())
    header: dict[str, Any] = {"format": FORMAT, "version": VERSION, "architecture": dict(architecture), "affine": affine}
    tensors: dict[str, np.ndarray] = {}
    if values <= {-1.0, 1.0}:
        header["weights"] = "signs"
        tensors["signs"] = pack_signs(np.concatenate([array.reshape(-1) for array in weights]))
    elif values <= {-1.0, 0.0, 1.0}:
        header["weights"] = "pruned-signs"
        masks = [array.reshape(-1) != 0 for array in weights]
        header["kept"] = [int(mask.sum()) for mask in masks]
        tensors["mask"] = encode_masks(masks)
        tensors["signs"] = pack_signs(np.concatenate([array.reshape(-1)[mask] for array, mask in zip(weights, masks, strict=True)]))
    else:
        header["weights"] = "float32"
        tensors["dense"] = np.concatenate([array.reshape(-1) for array in weights])
    batch_norm = [tensor.cpu().numpy().reshape(-1) for tensor in batch_norm_tensors(model)]
    tensors["batch_norm"] = np.concatenate(batch_norm).astype(np.float32) if batch_norm else np.zeros(0, np.float32)
    header["provenance"] = dict(provenance)
    return save(tensors, metadata={"harness": json.dumps(header, sort_keys=True, separators=(",", ":"))})


def check_file(path: Path, sha256: str, size: int) -> None:
    """Compare a file with the size and hash its record gives, before anything reads it.

    Raises
    ------
    DamagedFileError
        If the file is missing, cut short, or has other content.
    """
    if not path.is_file():
        raise DamagedFileError(path, f"a checkpoint of {size} bytes", "no file")
    found = path.stat().st_size
    if found != size:
        raise DamagedFileError(path, f"{size} bytes", f"{found} bytes")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != sha256:
        raise DamagedFileError(path, f"sha256 {sha256}", f"sha256 {digest}")


def load_packed(path: Path) -> Packed:
    """Read a packed checkpoint strictly: a missing, extra or misshapen tensor is an error. Executes nothing from the file.

    Raises
    ------
    DamagedFileError
        If the file is not a packed checkpoint of a version this code reads, or its content does not fit its header.
    """
    if not path.is_file():
        raise DamagedFileError(path, "a packed checkpoint", "no file")
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get("harness", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, ValueError) as error:
        raise DamagedFileError(path, "a packed checkpoint (safetensors)", str(error)) from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise DamagedFileError(path, f"a {FORMAT} header", "a safetensors file without it")
    if header.get("version") != VERSION:
        raise DamagedFileError(path, f"{FORMAT} version {VERSION}", f"version {header.get('version')}")
    try:
        return Packed(_unpack(header, tensors), header)
    except (KeyError, TypeError, ValueError, UserError) as error:
        raise DamagedFileError(path, "tensors that fit the header", str(error)) from None


def _unpack(header: Mapping[str, Any], tensors: dict[str, np.ndarray]) -> Classifier:
    layout = empty(header["architecture"], header["affine"])
    shapes = [tuple(weight.shape) for weight in dense_weights(layout)]
    sizes = [int(np.prod(shape)) for shape in shapes]
    kind = header["weights"]
    if kind == "signs":
        flat = [unpack_signs(_exact(tensors.pop("signs"), (sum(sizes) + 7) // 8), sum(sizes))]
        parts = np.split(flat[0], np.cumsum(sizes)[:-1])
    elif kind == "pruned-signs":
        kept = [int(count) for count in header["kept"]]
        masks = decode_masks(tensors.pop("mask"), sizes, kept)
        signs = np.split(unpack_signs(_exact(tensors.pop("signs"), (sum(kept) + 7) // 8), sum(kept)), np.cumsum(kept)[:-1])
        parts = []
        for mask, values in zip(masks, signs, strict=True):
            weight = np.zeros(mask.size, np.float32)
            weight[mask] = values
            parts.append(weight)
    elif kind == "float32":
        parts = np.split(_exact(tensors.pop("dense"), sum(sizes)), np.cumsum(sizes)[:-1])
    else:
        raise ValueError(f"unknown kind of weights {kind!r}")
    targets = batch_norm_tensors(layout)
    lengths = [tensor.numel() for tensor in targets]
    statistics = np.split(_exact(tensors.pop("batch_norm"), sum(lengths)), np.cumsum(lengths)[:-1]) if lengths else []
    if tensors:
        raise ValueError(f"unexpected tensor {sorted(tensors)[0]!r}")
    weights = [np.ascontiguousarray(part).reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
    return assemble(header["architecture"], header["affine"], weights, [torch.from_numpy(part.copy()) for part in statistics])


def _exact(array: np.ndarray, length: int) -> np.ndarray:
    if array.ndim != 1 or array.size != length:
        raise ValueError(f"a tensor of shape {array.shape} where {length} values are expected")
    return array
