"""Saving of a user model as a file that loads as data, and a record."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from model_zoo.adapters.exported import close, load_onnx, to_onnx
from model_zoo.adapters.preprocessing import NO_PREPROCESSING
from model_zoo.classifier import Classifier
from model_zoo.documents import first_fault
from model_zoo.errors import UsageError, UserError
from model_zoo.fence import inspecting
from model_zoo.files import place
from model_zoo.packing.frozen import weights_sha256
from model_zoo.packing.packed import pack
from model_zoo.references import ExportedFile, UserReference
from model_zoo.registry import write_record
from model_zoo.schema import Checkpoint, Record
from model_zoo.user_model import UserModel


def keep_user_model(reference: UserReference, folder: Path, images: torch.Tensor, fields: Mapping[str, Any]) -> Record:
    """Write the file of a user model and then `<id>.toml` into `folder`, and return the record.

    A network of this package is packed. Any other is saved as ONNX, the only format of exported networks that is data: an ONNX file
    without outside preprocessing unchanged, any other network by an export that must preserve logits and the gradients of images.

    Parameters
    ----------
    reference : FactoryFile, ExportedFile or RobustBenchEntry
        Reference to the user model; the errors of its `open` are also raised.
    folder : Path
        Folder of the two files; it is made if it does not exist.
    images : torch.Tensor
        Images float32 [N, 3, H, W] in [0, 1] on which logits and gradients are compared.
    fields : mapping
        The fields of the record that inspection cannot determine, `id` among them.

    Raises
    ------
    UsageError
        If the record would not be valid (the message names the field), or `folder` already has a record of that id.
    UserError
        If the network cannot be saved as data: TorchScript, operators that ONNX lacks, or custom gradients.
    """
    name = str(fields["id"])
    if (folder / f"{name}.toml").exists():
        raise _already_exists(folder / f"{name}.toml")
    user_model, model = reference.open()
    architecture, stored_model, suffix = dict(user_model.architecture), model, "safetensors"
    if isinstance(model, Classifier):
        content = pack(model, user_model.architecture, user_model.affine, {"id": name, "added_from": user_model.title})
    else:
        with inspecting(model) as network:
            stored_model, content = _as_onnx(reference, user_model, network, images)
        suffix, architecture = "onnx", {"name": "onnx", "sha256": hashlib.sha256(content).hexdigest(), "classes": user_model.classes}
    file = f"{name}.{suffix}"
    checkpoint = Checkpoint(file=file, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
    try:
        record = Record(
            **fields,
            architecture=architecture,
            affine=user_model.affine,
            weights_sha256=weights_sha256(stored_model),
            checkpoint=checkpoint,
        )
    except ValidationError as error:
        raise UsageError(first_fault(error)) from None
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # Another process may add a model of the same id at the same time.
        _place_new(folder / file, content)
        write_record(record, folder, is_new=True)
    except FileExistsError as error:
        raise _already_exists(Path(error.filename)) from None
    return record


def _place_new(path: Path, content: bytes) -> None:
    """Write a new file; a file of the same content, which an interrupted attempt leaves, may exist."""
    try:
        place(path, content, is_new=True)
    except FileExistsError:
        if path.read_bytes() != content:
            raise


def _already_exists(path: Path) -> UsageError:
    return UsageError(f"{path} already exists: choose another --id, or another folder with --out")


def _as_onnx(reference: UserReference, user_model: UserModel, model: nn.Module, images: torch.Tensor) -> tuple[nn.Module, bytes]:
    """Return the network as loaded from ONNX, and the content of the ONNX file."""
    if user_model.architecture["name"] == "torchscript":
        raise UserError("TorchScript is a program, but a record's file must be data: add the function that makes the network, or ONNX")
    if isinstance(reference, ExportedFile) and user_model.architecture["name"] == "onnx" and reference.preprocessing == NO_PREPROCESSING:
        return model, load_onnx(reference.path).content
    content = to_onnx(model, images)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "network.onnx"
        path.write_bytes(content)
        loaded = load_onnx(path)
    for expected, converted, quantity in zip(
        _logits_and_gradient(model, images), _logits_and_gradient(loaded.module, images), ("logits", "gradients"), strict=True
    ):
        if not close(converted, expected):
            raise UserError(
                f"exported to ONNX, this network has other {quantity} (a custom backward pass is lost): cannot store it as data"
            )
    return loaded.module, loaded.content


def _logits_and_gradient(model: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits of images, and the gradient of the logits' summed logsumexp with respect to the images."""
    point = images.clone().requires_grad_(True)
    logits = model(point)
    (gradient,) = torch.autograd.grad(logits.logsumexp(1).sum(), point)
    return logits.detach(), gradient
