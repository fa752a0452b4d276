"""Loading of the model that a record describes; its file is checked before it is read."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from model_zoo.adapters.exported import load_onnx
from model_zoo.errors import DamagedFileError
from model_zoo.fence import Fenced
from model_zoo.packing.frozen import weights_sha256
from model_zoo.packing.packed import check_file, load_packed
from model_zoo.schema import Record


def load_recorded(record: Record, path: Path) -> nn.Module:
    """Load the checkpoint at `path`, after its size and sha256 are checked, and compare the sha256 of the weights with the record.

    Raises a DamagedFileError if the file is not the one that the record names, or does not contain the weights that it names.
    """
    check_file(path, record.checkpoint.sha256, record.checkpoint.bytes)
    is_onnx = record.architecture["name"] == "onnx"
    loaded = _load_onnx(record, path) if is_onnx else _load_packed(record, path)
    sha256 = weights_sha256(loaded)
    if sha256 != record.weights_sha256:
        raise DamagedFileError(path, f"weights with sha256 {record.weights_sha256}", f"sha256 {sha256}")
    return Fenced(loaded, lambda: _load_onnx(record, path), stochastic=record.stochastic) if is_onnx else loaded


def _load_packed(record: Record, path: Path) -> nn.Module:
    packed = load_packed(path)
    if packed.header["architecture"] != record.architecture or packed.header["affine"] != record.affine:
        raise DamagedFileError(path, f"the architecture of record {record.id}", f"{packed.header['architecture']}")
    return packed.model


def _load_onnx(record: Record, path: Path) -> nn.Module:
    loaded = load_onnx(path)
    if loaded.sha256 != record.architecture.get("sha256"):
        raise DamagedFileError(path, f"the network of record {record.id}", f"one with sha256 {loaded.sha256}")
    return loaded.module
