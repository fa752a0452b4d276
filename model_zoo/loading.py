"""Registered models as modules, loaded only after their file is checked."""

from __future__ import annotations

from model_zoo.classifier import Classifier
from model_zoo.errors import DamagedFileError
from model_zoo.packing.frozen import weights_sha256
from model_zoo.packing.packed import check_file, load_packed
from model_zoo.registry import checkpoint_path, get_record


def load_model(model: str) -> Classifier:
    """Load a model, frozen and in eval mode: float32 [N, 3, H, W] in [0, 1] to logits [N, classes].

    The file's size and sha256 are compared with the record before it is read; the loaded weights are hashed and compared after.

    Raises
    ------
    UnknownNameError
        For an id that is not in the registry.
    DamagedFileError
        If the checkpoint is not the file the record names, or does not hold the weights it names.
    """
    record, path = get_record(model), checkpoint_path(model)
    check_file(path, record.checkpoint.sha256, record.checkpoint.bytes)
    packed = load_packed(path)
    if packed.header["architecture"] != record.architecture or packed.header["affine"] != record.affine:
        raise DamagedFileError(path, f"the architecture of record {record.id}", f"{packed.header['architecture']}")
    found = weights_sha256(packed.model)
    if found != record.weights_sha256:
        raise DamagedFileError(path, f"weights with sha256 {record.weights_sha256}", f"sha256 {found}")
    return packed.model
