"""The packed checkpoint format: a safetensors file with one JSON header and a few flat tensors.

The tensors of the weights are those of `model_zoo.packing.weights` or of `model_zoo.packing.factors`; every file also has `batch_norm`,
float32: means, variances, scales and shifts (if the batch norms are affine), and biases. Layers and batch norms are in module order; shapes
come from the architecture in the header, so that the file cannot be read as another network by mistake. Later versions add kinds of weights
that earlier ones do not know; a file names the oldest version that can read it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from safetensors.numpy import save

from model_zoo.classifier import Classifier
from model_zoo.documents import parse_json, validated
from model_zoo.errors import DamagedFileError, UsageError, UserError
from model_zoo.layers.factored import Factors
from model_zoo.packing.drawn import check_drawn, draw_signs
from model_zoo.packing.factors import KIND, decode_factors, encode_factors, stored_factors
from model_zoo.packing.frozen import assemble, batch_norm_tensors, dense_weights, effective_weights, empty, freeze, weights_sha256
from model_zoo.packing.weights import decode, encode, exact
from model_zoo.tensor_files import read_tensors

FORMAT = "robust-binary-packed"
VERSION = 3
# Version that introduced each kind of weights; the other kinds came with version 2, as did scales for signs.
SINCE = {"signs": 1, "pruned-signs": 1, "float32": 1, "int8": 3, "pruned-int8": 3, KIND: 3}


# Largest number of weights that is read: four times that of the largest network on RobustBench, WRN-70-16.
LARGEST = 2**30


class _Drawn(BaseModel):
    """Source from which signs are drawn, see `model_zoo.packing.drawn`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    generator: str
    seed: int = Field(ge=0, lt=2**64)
    weight_init: str


Counts = list[Annotated[int, Field(ge=0, le=LARGEST)]]


class _Header(BaseModel):
    """The header; `kept`, `values` and `channels` are numbers per layer or tensor, `drawn` and `weights_sha256` are for drawn signs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str
    version: int
    architecture: dict[str, Any]
    affine: bool
    weights: str
    kept: Counts | None = None
    values: Counts | None = None
    channels: Counts | None = None
    drawn: _Drawn | None = None
    weights_sha256: str | None = None
    provenance: dict[str, Any] = {}

    @model_validator(mode="after")
    def _drawn_has_hash(self) -> Self:
        if (self.weights == "pruned-drawn") != (self.drawn is not None) or (self.drawn is None) != (self.weights_sha256 is None):
            raise ValueError("weights of the kind pruned-drawn need drawn and weights_sha256, and no other kind may have them")
        return self


@dataclass(frozen=True)
class Packed:
    """Packed checkpoint in memory: the frozen model and the header of its file."""

    model: Classifier
    header: Mapping[str, Any]


def pack(
    model: Classifier, architecture: Mapping[str, Any], affine: bool, provenance: Mapping[str, Any], drawn: Mapping[str, Any] | None = None
) -> bytes:
    """Return the bytes of a packed checkpoint; the same model and provenance give the same bytes.

    Parameters
    ----------
    model : Classifier
        Model, frozen or in training form.
    architecture, affine : mapping, bool
        Architecture as `build_classifier` takes it.
    provenance : mapping
        JSON values that are stored in the header.
    drawn : mapping, optional
        Generator, seed and weight initialisation as `model_zoo.packing.drawn.draw_signs` takes them. If given, the signs are omitted and
        drawn again on loading.

    Raises
    ------
    UsageError
        If the model's weights are not those that `drawn` or the model's factors give.
    """
    weights = effective_weights(model)
    if drawn is not None:
        check_drawn(architecture, drawn, weights)
    factors = stored_factors(model)
    if any(not np.array_equal(stored.product().reshape(-1), weight.reshape(-1)) for stored, weight in zip(factors, weights, strict=False)):
        raise UsageError("the model's weights are not the product of its factors")
    fields, tensors = encode_factors(factors) if factors else encode(weights, drawn)
    if drawn is not None and fields["weights"] != "pruned-drawn":
        raise UsageError(f"weights of the kind {fields['weights']} do not follow from drawn signs and a mask: store them (--signs stored)")
    version = max(SINCE.get(fields["weights"], 2), 2 if "scales" in tensors else 1)
    header: dict[str, Any] = {"format": FORMAT, "version": version, "architecture": dict(architecture), "affine": affine}
    header |= fields
    if fields["weights"] == "pruned-drawn":
        # If another version of torch draws other signs, loading must fail rather than give another network.
        header["weights_sha256"] = weights_sha256(freeze(model, architecture, affine))
    batch_norm = [tensor.cpu().numpy().reshape(-1) for tensor in batch_norm_tensors(model)]
    tensors["batch_norm"] = np.concatenate(batch_norm).astype(np.float32) if batch_norm else np.zeros(0, np.float32)
    header["provenance"] = dict(provenance)
    return save(tensors, metadata={"harness": json.dumps(header, sort_keys=True, separators=(",", ":"))})


def check_file(path: Path, sha256: str, size: int) -> None:
    """Check that a file has the size in bytes and the sha256 of its record, before anything else reads it.

    Raises
    ------
    DamagedFileError
        If the file is missing, or has another size or content.
    """
    if not path.is_file():
        raise DamagedFileError(path, f"a checkpoint of {size} bytes", "no file")
    actual_size = path.stat().st_size
    if actual_size != size:
        raise DamagedFileError(path, f"{size} bytes", f"{actual_size} bytes")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != sha256:
        raise DamagedFileError(path, f"sha256 {sha256}", f"sha256 {digest}")


def load_packed(path: Path) -> Packed:
    """Read a packed checkpoint strictly: a missing, extra or misshapen tensor is an error. Nothing in the file is executed.

    Raises
    ------
    DamagedFileError
        If the file is not a packed checkpoint of a version this code reads, or its content does not fit its header.
    """
    tensors, metadata = read_tensors(path, "a packed checkpoint")
    header = parse_json(metadata.get("harness", "null").encode(), path, f"a {FORMAT} header")
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise DamagedFileError(path, f"a {FORMAT} header", "a safetensors file without it")
    if type(header.get("version")) is not int or not 1 <= header["version"] <= VERSION:
        raise DamagedFileError(path, f"{FORMAT} version {VERSION} or older", f"version {header.get('version')}")
    fields = validated(_Header, header, path, f"a {FORMAT} header")
    try:
        packed = Packed(_unpack(fields, tensors), header)
        if fields.drawn is not None and weights_sha256(packed.model) != fields.weights_sha256:
            raise ValueError("the drawn signs are not those of the model: the file was made with another version of torch")
        return packed
    except (KeyError, TypeError, ValueError, UserError) as error:
        raise DamagedFileError(path, "tensors that fit the header", f"{type(error).__name__}: {error}") from None


def _unpack(fields: _Header, tensors: dict[str, np.ndarray]) -> Classifier:
    header, architecture = fields.model_dump(exclude_none=True), fields.architecture
    # Only shapes are needed, and a header must not be able to make us allocate memory.
    with torch.device("meta"):
        layout = empty(architecture, fields.affine)
    shapes = [tuple(weight.shape) for weight in dense_weights(layout)]
    lengths = [tensor.numel() for tensor in batch_norm_tensors(layout)]
    batch_norm = exact(tensors.pop("batch_norm"), sum(lengths), np.float32)
    statistics = np.split(batch_norm, np.cumsum(lengths)[:-1]) if lengths else []
    weight_count = sum(math.prod(shape) for shape in shapes)
    if weight_count > LARGEST:
        raise ValueError(f"{weight_count:,} weights, but at most {LARGEST:,} are read")
    factors: list[Factors] = []
    if header["weights"] == KIND:
        factors = decode_factors(header, tensors, shapes)
        parts = [stored.product() for stored in factors]
    else:
        signs = draw_signs(architecture, header["drawn"]) if header["weights"] == "pruned-drawn" else []
        parts = decode(header, tensors, [int(np.prod(shape)) for shape in shapes], signs)
    if tensors:
        raise ValueError(f"unexpected tensor {sorted(tensors)[0]!r}")
    weights = [np.ascontiguousarray(part).reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
    return assemble(architecture, fields.affine, weights, [torch.from_numpy(part.copy()) for part in statistics], factors)
