"""User models, which have no record: how they are loaded and described by inspection."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model_zoo.adapters import exported, factory, robustbench
from model_zoo.adapters.preprocessing import NO_PREPROCESSING, Preprocessing
from model_zoo.classifier import Classifier, channels_of
from model_zoo.errors import RefusedError, UserCodeError
from model_zoo.fence import Fenced, unfenced
from model_zoo.image_shapes import BATCHES, CHANNELS, SIZES, shape_text, size_for
from model_zoo.layers.activations import activation_of
from model_zoo.packing.frozen import freeze, weights_sha256
from model_zoo.packing.packed import pack
from model_zoo.schema import TrainedOn, Training
from model_zoo.stored_size import stored_size
from model_zoo.user_code import user_code

# A seed that is unlikely to have been used to draw weights.
_SEED = 0x0C0F_FEE5


@dataclass(frozen=True)
class UserModel:
    """Description of a model without a record, with the fields that a unit needs; how it was trained is unknown.

    Attributes
    ----------
    id : str
        Name of the file and the first six digits of a hash of code and weights.
    title : str
        Name for readers: the file with its function and weights, or the model of the leaderboard.
    architecture : mapping
        Architecture as in a record, for a network of this package. Otherwise `name` is the kind of source, and the code is identified by
        `sha256` (hash of the file), `code` (hash of a factory, `model_zoo.adapters.factory.Made.code`), or `model` (the model of a
        leaderboard).
    bytes, convention : int, str
        Number of bytes, and what they measure: "packed file" (the checkpoint that a record would name), "given file", "tensors" (those of
        a factory's network in memory, without a file), or "kept weights and masks" (the same for a network that torch prunes by masks).
    size : int
        Height and width in pixels of images on which the model runs.
    channels : int
        Channels of these images, 3 or 1.
    """

    id: str
    title: str
    architecture: Mapping[str, Any]
    affine: bool
    weights_sha256: str
    bytes: int
    convention: str
    size: int
    backward: str = "exact"
    stochastic: bool = False
    family: str | None = None
    weight_bits: int | None = None
    keep_ratio: float | None = None
    data: TrainedOn | None = None
    training: Training | None = None
    channels: int = 3

    @property
    def classes(self) -> int:
        """Number of logits."""
        return int(self.architecture["classes"])


def open_factory(path: Path, function: str, weights: Path | None = None) -> tuple[UserModel, nn.Module]:
    """Load the network that a function of a Python file makes, filled with the weights of a file if there is one.

    The network is frozen and in eval mode and maps float32 [N, 3, H, W] in [0, 1] to logits [N, classes].

    Raises
    ------
    UserError
        As `model_zoo.adapters.factory.make` raises it.
    RefusedError
        If the model does not run on images of three channels or of one, or no gradient reaches them.
    """
    built = factory.make(path, function, weights)
    title = f"{path.name}:{function}" + (f" with {weights.name}" if weights else "")
    imports = built.modules.active

    def fence(change: Callable[[nn.Module], nn.Module]) -> Fenced:
        return Fenced(change(built.network), lambda: change(factory.make(path, function, weights).network), imports)

    with imports():
        packed = _as_packed(built.network)
    if packed is not None:
        architecture, affine, frozen = packed
        content = pack(frozen, architecture, affine, {"id": path.stem})
        packed_shape = (32, channels_of(architecture))
        return _user_model(path.stem, title, architecture, frozen, (len(content), "packed file"), packed_shape, affine), frozen
    fenced = fence(lambda network: network)
    try:
        classes, *shape = _classes(fenced)
    except RefusedError:
        kind = _lower_precision(built.network)
        if kind is None:
            raise
        fenced = fence(lambda network: _CastImages(network, kind))
        classes, *shape = _classes(fenced)
    architecture = {"name": "factory", "code": built.code, "classes": classes}
    return _user_model(path.stem, title, architecture, fenced, stored_size(built.network), shape), fenced


def open_exported(path: Path, preprocessing: Preprocessing = NO_PREPROCESSING) -> tuple[UserModel, nn.Module]:
    """Load the network of a file with TorchScript, torch.export or ONNX; all but ONNX contain code, which is executed.

    Form and RefusedError are as for `open_factory`; `model_zoo.adapters.exported.load_exported` says which other errors are raised.
    """

    def load() -> exported.Exported:
        with user_code(f"{path} failed"):
            return exported.load_exported(path, preprocessing)

    loaded = load()
    fenced = Fenced(loaded.module, lambda: load().module)
    classes, *shape = _classes(fenced, is_exported=True, declared=loaded.image_shape)
    architecture = {"name": loaded.kind, "sha256": loaded.sha256, "classes": classes, **preprocessing.identity()}
    return _user_model(path.stem, path.name, architecture, fenced, (len(loaded.content), "given file"), shape), fenced


class _CastImages(nn.Module):
    """Network whose parameters have another floating type than float32, to which its images are cast."""

    def __init__(self, network: nn.Module, kind: torch.dtype) -> None:
        super().__init__()
        self.network, self.kind = network, kind
        self.training = network.training

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [N, classes], of the network's type, of float32 images [N, C, H, W]."""
        logits: torch.Tensor = self.network(images.to(self.kind))
        return logits


def _lower_precision(network: nn.Module) -> torch.dtype | None:
    """Return the type that all parameters share, or None if they have several or it is float32."""
    kinds = {parameter.dtype for parameter in network.parameters()}
    return kinds.pop() if len(kinds) == 1 and torch.float32 not in kinds else None


def _as_packed(network: nn.Module) -> tuple[Mapping[str, Any], bool, Classifier] | None:
    """Return architecture, `affine` and frozen form of a network of this package; None for others or if the frozen form's logits differ."""
    if not isinstance(network, Classifier) or network.architecture is None:
        return None
    frozen = freeze(network, network.architecture, network.affine)
    noise = torch.rand(8, channels_of(network.architecture), 32, 32, generator=torch.Generator().manual_seed(_SEED))
    with torch.no_grad(), user_code("model failed"):
        # The frozen form would lose a user's forward method or hook.
        is_equal = exported.close(network(noise.clone()), frozen(noise))
    return (network.architecture, network.affine, frozen) if is_equal else None


def open_robustbench(name: str, dataset: str, norm: str, folder: Path) -> tuple[UserModel, nn.Module]:
    """Load a model of a RobustBench leaderboard, whose file is downloaded into `folder` if it is not there.

    Form and RefusedError are as for `open_factory`; `model_zoo.adapters.robustbench.load_robustbench` says which other errors are raised.
    """

    def load() -> nn.Module:
        return robustbench.load_robustbench(name, folder, dataset, norm)

    loaded = Fenced(load(), load)
    size = robustbench.file_of(folder, name, dataset, norm).stat().st_size
    classes, *shape = _classes(loaded)
    architecture = {"name": "robustbench", "model": f"{dataset}/{norm}/{name}", "classes": classes}
    return _user_model(name, f"{name} of RobustBench ({dataset}, {norm})", architecture, loaded, (size, "given file"), shape), loaded


def _user_model(
    stem: str,
    title: str,
    architecture: Mapping[str, Any],
    model: nn.Module,
    stored: tuple[int, str],
    shape: Sequence[int],
    affine: bool = True,
) -> UserModel:
    size, channels = shape
    weights = weights_sha256(unfenced(model))
    identity = json.dumps([dict(architecture), affine, weights], sort_keys=True)
    slug = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-") or "model"
    name = f"{slug}-{hashlib.sha256(identity.encode()).hexdigest()[:6]}"
    backward = activation_of(architecture).backward
    return UserModel(name, title, dict(architecture), affine, weights, *stored, size, backward=backward, channels=channels)


def _classes(model: Fenced, is_exported: bool = False, declared: tuple[int, int, int] | None = None) -> tuple[int, int, int]:
    """Return the number of logits, and the size in pixels and the channels of images on which a network runs.

    `declared` has the channels, height and width of images if the network's file states them. Networks for other images than squares of
    three channels or one are refused.

    Raises a RefusedError if attacks could not differentiate the network.
    """
    first_error = ""
    sizes = SIZES if declared is None or declared[1] in SIZES else (declared[1], *SIZES)
    for channels in CHANNELS:
        for size in sizes:
            images = torch.full((2, channels, size, size), 0.5, requires_grad=True)
            try:
                logits = model(images)
            except UserCodeError as error:
                first_error = first_error or str(error)
                continue
            with warnings.catch_warnings(), user_code("model refused: no gradient reaches the images"):
                # torch warns at length about operators without a gradient.
                warnings.simplefilter("ignore")
                gradient = torch.autograd.grad(logits.sum(), images, allow_unused=True)[0] if logits.requires_grad else None
            if gradient is None:
                raise RefusedError("model refused: no gradient reaches the images (quantised, or computed under no_grad?)")
            return int(logits.shape[1]), size, channels
    if declared is not None and (declared[0] not in CHANNELS or declared[1] != declared[2]):
        raise RefusedError(f"model refused: it takes images of {shape_text(*declared)}; square images of 3 channels or 1 are expected")
    for batch in BATCHES:
        # Without the fence, because its audits use other batch sizes.
        if (fixed_size := size_for(unfenced(model), batch, 3, SIZES[:2])) is not None:
            remedy = "export it with a dynamic batch dimension" if is_exported else "its code fixes that number"
            raise RefusedError(
                f"model refused: it takes {batch} images of {fixed_size} x {fixed_size} pixels at a time and no other number: {remedy}"
            )
    raise RefusedError(f"model refused: it does not run on square images of {min(SIZES)} to {max(SIZES)} pixels ({first_error[:150]})")
