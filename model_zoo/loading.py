"""Loading of models by reference. The file of a registered model is checked before it is read."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from model_zoo.adapters.exported import load_onnx
from model_zoo.errors import DamagedFileError, MissingDataError
from model_zoo.fence import Fenced
from model_zoo.own import is_own, open_own
from model_zoo.packing.frozen import weights_sha256
from model_zoo.packing.packed import check_file, load_packed
from model_zoo.registry import absence, checkpoint_path, get_record
from model_zoo.schema import Record


def load_model(model: str) -> nn.Module:
    """Load a model, frozen and in eval mode, that maps float32 [N, 3, H, W] in [0, 1] to logits [N, classes].

    For a registered model, the size and sha256 of the file are compared with the record before it is read, and the sha256 of the loaded
    weights afterwards.

    Parameters
    ----------
    model : str
        A registered id, the path of a record, or a reference that `model_zoo.own.open_own` takes, whose errors are then raised.

    Raises
    ------
    UnknownNameError
        If the registry does not contain the id.
    MissingDataError
        If only the outcomes of the model ship and its checkpoint is not on this machine.
    DamagedFileError
        If the checkpoint is not the file that the record names, or does not contain the weights that it names.
    """
    loaded = open_own(model)[1] if is_own(model) else _load(model)
    loaded.loaded_from = model  # type: ignore[assignment]
    return loaded


def _load(model: str) -> nn.Module:
    record, path = get_record(model), checkpoint_path(model)
    reason = absence(model)
    if reason is not None:
        raise MissingDataError(reason)
    check_file(path, record.checkpoint.sha256, record.checkpoint.bytes)
    loaded = _load_onnx(record, path) if record.architecture["name"] == "onnx" else _load_packed(record, path)
    sha256 = weights_sha256(loaded)
    if sha256 != record.weights_sha256:
        raise DamagedFileError(path, f"weights with sha256 {record.weights_sha256}", f"sha256 {sha256}")
    if record.architecture["name"] == "onnx":
        return Fenced(loaded, lambda: _load_onnx(record, path), stochastic=record.stochastic)
    return loaded


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
