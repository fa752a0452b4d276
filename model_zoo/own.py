"""Models of one's own, which have no record: what can be told of them by looking."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model_zoo import registry
from model_zoo.adapters import exported, factory, robustbench
from model_zoo.classifier import Classifier
from model_zoo.errors import RefusedError, UsageError
from model_zoo.packing.frozen import freeze, weights_sha256
from model_zoo.packing.packed import pack
from model_zoo.schema import Attackable, TrainedOn, Training

# FILE.py:FUNCTION, and @FILE where weights come from a file.
_FACTORY = re.compile(r"(?P<file>.+\.py):(?P<function>[A-Za-z_]\w*)(@(?P<checkpoint>.+))?")
# robustbench:NAME, or with the leaderboard the name is looked up on; @FOLDER where its file is.
_LEADERBOARD = re.compile(r"robustbench:((?P<dataset>[a-z0-9]+)/(?P<norm>\w+)/)?(?P<name>[^/@]+)(@(?P<folder>.+))?")
# Sizes of images that a network is tried with, to learn how many classes it has.
_SIZES = (32, 224)


@dataclass(frozen=True)
class Own:
    """A model without a record, as far as a unit has to know it; nobody has said what it was trained on, or how.

    Attributes
    ----------
    id : str
        The file's name and the beginning of a hash of code and weights.
    title : str
        What the user wrote.
    architecture : mapping
        Of a network of this package, its architecture: the same as in a record of it. Else `name` says what the network came as, and a
        hash stands for its code: `sha256` that of the file, `code` that of a factory (`model_zoo.adapters.factory.fingerprint`); or `model`
        which one of a leaderboard it is.
    bytes, convention : int, str
        Its size, and of what: "packed file" (what a record of it would name), "given file", or "tensors" (those of a factory's network,
        as they are in memory, with no file around them).
    """

    id: str
    title: str
    architecture: Mapping[str, Any]
    affine: bool
    weights_sha256: str
    bytes: int
    convention: str
    backward: str = "exact"
    stochastic: bool = False
    family: str | None = None
    weight_bits: int | None = None
    keep_ratio: float | None = None
    data: TrainedOn | None = None
    training: Training | None = None

    @property
    def classes(self) -> int:
        """Number of logits."""
        return int(self.architecture["classes"])


def is_own(model: str) -> bool:
    """Whether `model` names a model without a record: FILE.py:FUNCTION, a file with a suffix of an exported network, robustbench:NAME."""
    return bool(_FACTORY.fullmatch(model) or _LEADERBOARD.fullmatch(model)) or model.endswith((".py", *exported.SUFFIXES))


def is_leader(model: str) -> bool:
    """Whether `model` names one of the RobustBench leaderboard, robustbench:NAME."""
    return _LEADERBOARD.fullmatch(model) is not None


def describe(model: str) -> Attackable:
    """The record of an id or record path, or what can be told of a model of one's own; errors as `registry.get_record` and `open_own`."""
    return open_own(model)[0] if is_own(model) else registry.get_record(model)


def with_checkpoint(model: str, checkpoint: Path | None) -> str:
    """`model` with a file of weights, as one text that other processes find it by, wherever they run."""
    named = _FACTORY.fullmatch(model)
    if checkpoint is not None and (named is None or named["checkpoint"]):
        raise UsageError("a file of weights goes with a function that makes the network: FILE.py:FUNCTION")
    if not is_own(model):
        return model
    if leader := _leader(model):
        name, dataset, norm, folder = leader
        return f"robustbench:{dataset}/{norm}/{name}@{folder.resolve()}"
    if named is None:
        return str(Path(model).resolve())
    weights = checkpoint or (Path(named["checkpoint"]) if named["checkpoint"] else None)
    return f"{Path(named['file']).resolve()}:{named['function']}" + (f"@{weights.resolve()}" if weights else "")


def open_own(model: str) -> tuple[Own, nn.Module]:
    """Load a model of one's own: frozen, in eval mode, float32 [N, 3, H, W] in [0, 1] to logits.

    Parameters
    ----------
    model : str
        "FILE.py:FUNCTION", "FILE.py:FUNCTION@WEIGHTS", or a file with TorchScript, torch.export or ONNX. All but ONNX is code, which runs.
        "robustbench:NAME" is what the leaderboard of CIFAR-10 at Linf has under that name, "robustbench:cifar100/Linf/NAME" another's; its
        file is fetched into the folder `models`, as robustbench does, or into FOLDER where "@FOLDER" follows.

    Raises
    ------
    UserError
        As `model_zoo.adapters.factory.make` and `model_zoo.adapters.exported.load_exported` raise it.
    RefusedError
        If it does not run on images, or no gradient comes back to them.
    """
    if leader := _leader(model):
        return _open_leader(*leader)
    named = _FACTORY.fullmatch(model)
    if named is None:
        if model.endswith(".py"):
            raise UsageError(f"say which function of {model} makes the network: {model}:FUNCTION")
        path = Path(model)
        given = exported.load_exported(path)
        architecture = {"name": given.kind, "sha256": given.sha256, "classes": _classes(given.module)}
        return _own(path.stem, path.name, architecture, given.module, len(given.content), "given file"), given.module
    path, weights = Path(named["file"]), Path(named["checkpoint"]) if named["checkpoint"] else None
    made = factory.make(path, named["function"], weights)
    title = f"{path.name}:{named['function']}" + (f" with {weights.name}" if weights else "")
    if isinstance(made, Classifier) and made.architecture is not None:
        frozen = freeze(made, made.architecture, made.affine)
        size = len(pack(frozen, made.architecture, made.affine, {"id": path.stem}))
        return _own(path.stem, title, made.architecture, frozen, size, "packed file", made.affine), frozen
    architecture = {"name": "factory", "code": factory.fingerprint(path, made), "classes": _classes(made)}
    size = sum(tensor.nbytes for tensor in made.state_dict().values())
    return _own(path.stem, title, architecture, made, size, "tensors"), made


def _leader(model: str) -> tuple[str, str, str, Path] | None:
    """Name, data set, norm and folder of a leaderboard's model; None where `model` names none."""
    found = _LEADERBOARD.fullmatch(model)
    if found is None:
        return None
    return found["name"], found["dataset"] or "cifar10", found["norm"] or "Linf", Path(found["folder"] or robustbench.FOLDER)


def _open_leader(name: str, dataset: str, norm: str, folder: Path) -> tuple[Own, nn.Module]:
    loaded = robustbench.load_robustbench(name, folder, dataset, norm)
    size = robustbench.file_of(folder, name, dataset, norm).stat().st_size
    architecture = {"name": "robustbench", "model": f"{dataset}/{norm}/{name}", "classes": _classes(loaded)}
    return _own(name, f"{name} of RobustBench ({dataset}, {norm})", architecture, loaded, size, "given file"), loaded


def _own(stem: str, title: str, architecture: Mapping[str, Any], model: nn.Module, size: int, convention: str, affine: bool = True) -> Own:
    weights = weights_sha256(model)
    whole = json.dumps([dict(architecture), affine, weights], sort_keys=True)
    slug = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-") or "model"
    name = f"{slug}-{hashlib.sha256(whole.encode()).hexdigest()[:6]}"
    return Own(name, title, dict(architecture), affine, weights, size, convention)


def _classes(model: nn.Module) -> int:
    """How many logits a network gives for an image; refuses one that attacks could not differentiate."""
    said = ""
    for size in _SIZES:
        images = torch.full((2, 3, size, size), 0.5, requires_grad=True)
        try:
            logits = model(images)
        except Exception as error:
            # A network of anybody's: anything may come out of it.
            said = said or f"{type(error).__name__}: {error}".splitlines()[0][:200]
            continue
        if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != 2:
            shape = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise RefusedError(f"model refused: logits [2, classes] expected for two images, found {shape}")
        if not logits.requires_grad:
            raise RefusedError("model refused: no gradient comes back to the images (quantised, or computed under no_grad?)")
        return int(logits.shape[1])
    raise RefusedError(
        f"model refused: it runs on no batch of two images of {' or '.join(map(str, _SIZES))} pixels ({said}); "
        "an exported network needs a dynamic batch dimension"
    )
