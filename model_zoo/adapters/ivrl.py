"""Checkpoints of the paper's official code (github.com/IVRL/RobustBinarySubNet, commit 3c5bd5d) as frozen models.

Such a file holds float weights and, for pruned networks, float scores; which weights are kept is not in it. It follows from the keep
ratio and the allocation power that were typed in for training, and with wrong ones another network comes out without any error: compare
the clean accuracy. Keys may carry the prefixes of DataParallel (`module.`) and of the normalisation in front (`1.`).
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from model_zoo.classifier import Classifier
from model_zoo.errors import DamagedFileError, UsageError
from model_zoo.layers.pruned_binary import top_mask
from model_zoo.layers.signs import sign
from model_zoo.packing.frozen import assemble, batch_norm_tensors, dense_weights, empty
from model_zoo.pruning.allocation import layer_keep_counts

# Ends of keys that say nothing about what the network computes: `binweight` is the last sign of the latent weight, made again here.
IGNORED = (".num_batches_tracked", ".binweight")
# What NumPy numbers beside the tensors (a best accuracy) are written as, by the names of old and new releases. Nothing here executes
# anything.
_SCALAR = np.float64(0).__reduce__()[0]
NUMBERS: list[Any] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float32", "float64", "int64")),
]


@dataclass(frozen=True)
class Imported:
    """A network from a checkpoint, and what was found in it.

    Attributes
    ----------
    model : Classifier
        Frozen, in eval mode.
    family : str
        "pruned-binary", "dense-binary" or "dense".
    architecture : mapping
        As asked for, with the `last_batch_norm` that was found.
    affine : bool
        Whether batch norms have scales and shifts.
    zeros : int
        Weights that are kept by their score and exactly 0: the official code draws one in about 2^24. They add nothing, so here they
        count as removed.
    ties : int
        Weights whose |score| is that of the last one kept in their layer, where that leaves a choice: which of them the official code
        kept is in no file. 0 means that the mask is certain.
    """

    model: Classifier
    family: str
    architecture: Mapping[str, Any]
    affine: bool
    zeros: int
    ties: int


def load_ivrl(
    path: Path, architecture: Mapping[str, Any], keep_ratio: float | None = None, allocation_power: float | None = None
) -> Imported:
    """Read a checkpoint; nothing in it is executed.

    Parameters
    ----------
    architecture : mapping
        As `build_classifier` takes it; `last_batch_norm` is found out and need not be there.
    keep_ratio, allocation_power : float, optional
        What the network was trained with; needed if it has scores.

    Raises
    ------
    DamagedFileError
        If the file is no checkpoint, or a tensor is missing, left over or of another shape.
    UsageError
        If there are scores and no keep ratio, or the other way round.
    """
    state = _state(path)
    affine = "bn1.weight" in state
    last = "none" if "last_bn.running_mean" not in state else "affine" if "last_bn.weight" in state else "plain"
    found = {**architecture, "last_batch_norm": last}
    layout = empty(found, affine)
    scores = {name for name in state if name.endswith(".scores")}
    latent = {name for name in state if name.endswith(".binweight")}
    if bool(scores) != (keep_ratio is not None and allocation_power is not None):
        what = "has scores: say with which keep ratio and allocation power it was trained" if scores else "has no scores: it was not pruned"
        raise UsageError(f"{path} {what}")
    names = [name.removeprefix("network.") for name, layer in layout.named_modules() if isinstance(layer, nn.Conv2d)]
    shapes = [tuple(weight.shape) for weight in dense_weights(layout)]
    weights = [_take(path, state, f"{name}.weight", shape) for name, shape in zip(names, shapes, strict=True)]
    zeros = ties = 0
    if scores:
        assert keep_ratio is not None and allocation_power is not None
        counts = layer_keep_counts([weight.numel() for weight in weights], keep_ratio, allocation_power)
        for position, (name, shape, count) in enumerate(zip(names, shapes, counts, strict=True)):
            rank = _take(path, state, f"{name}.scores", shape).abs()
            mask = top_mask(rank, count)
            ties += _ties(rank, mask)
            zeros += int(((weights[position] == 0) & (mask == 1)).sum())
            weights[position] = weights[position] * mask
    elif latent:
        weights = [sign(weight) for weight in weights]
    norms = _norms(layout)
    batch_norm = [_take(path, state, name, tuple(tensor.shape)) for name, tensor in zip(norms, batch_norm_tensors(layout), strict=True)]
    left = sorted(name for name in state if not name.endswith(IGNORED))
    if left:
        raise DamagedFileError(path, f"the tensors of {found['name']}", f"also {left[0]!r}")
    model = assemble(found, affine, [np.ascontiguousarray(weight.numpy(), np.float32) + np.float32(0.0) for weight in weights], batch_norm)
    family = "pruned-binary" if scores else "dense-binary" if latent else "dense"
    return Imported(model, family, found, affine, zeros, ties)


def _state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint by our names for them."""
    if not path.is_file():
        raise UsageError(f"no file {path}")
    try:
        with torch.serialization.safe_globals(NUMBERS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own words advise reading the file all the same, which would execute what is in it.
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f"something that would have to be executed ({named[1]})" if named else "another file"
        raise DamagedFileError(path, "a checkpoint of tensors and numbers alone", what) from None
    except (RuntimeError, EOFError, ValueError, KeyError, OSError):
        raise DamagedFileError(path, "a checkpoint that torch can read", "another file, or one cut short") from None
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(item, torch.Tensor) for item in state.values()):
        raise DamagedFileError(path, "a state dict of tensors", "something else")
    tensors = {name.removeprefix("module.").removeprefix("1."): tensor for name, tensor in state.items()}
    # By what they are, not by what they are called: batch norms and convolutions outside the stem and the stages.
    own = {name.split(".")[0] for name in tensors} - {"conv1", "bn1"} - {f"layer{number}" for number in range(1, 5)}
    ours = {name: "last_bn" if f"{name}.running_mean" in tensors else "fc" for name in own}
    renamed = {}
    for name, tensor in tensors.items():
        first, _, rest = name.partition(".")
        renamed[f"{ours.get(first, first)}.{rest}"] = tensor.float() if tensor.is_floating_point() else tensor
    return renamed


def _ties(rank: torch.Tensor, mask: torch.Tensor) -> int:
    """How many entries of `rank` have the smallest value that `mask` keeps, if it keeps some of them and not others; else 0."""
    same = rank == rank[mask == 1].min()
    return int(same.sum()) if bool((mask[same] == 0).any()) else 0


def _norms(layout: nn.Module) -> list[str]:
    """Names of the tensors that `batch_norm_tensors` gives, in its order."""
    by_identity = {tensor.data_ptr(): name.removeprefix("network.") for name, tensor in layout.state_dict().items()}
    return [by_identity[tensor.data_ptr()] for tensor in batch_norm_tensors(layout)]


def _take(path: Path, state: dict[str, torch.Tensor], name: str, shape: tuple[int, ...]) -> torch.Tensor:
    if name not in state:
        raise DamagedFileError(path, f"a tensor {name!r}", "none of that name")
    tensor = state.pop(name)
    if tuple(tensor.shape) != shape:
        raise DamagedFileError(path, f"{name!r} of shape {list(shape)}", f"{list(tensor.shape)}")
    return tensor
