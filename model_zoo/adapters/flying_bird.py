"""Checkpoints of Flying Bird, Flying Bird+ and Robust Bird (Chen et al. 2022; VITA-Group/Sparsity-Win-Robust-Generalization, 6e9a862).

The normalisation is a layer of the network; its numbers in the file are compared with those of the official code. Pruned weights are zero
in Flying Bird's files, which also have the masks in `mask_info`; Robust Bird's contain unpruned weights (`weight_orig`) and masks
(`weight_mask`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from model_zoo.adapters import Adapter, Imported, Request
from model_zoo.adapters.checkpoint import read_checkpoint, tensors
from model_zoo.adapters.describe import describe
from model_zoo.adapters.fill import fill, take
from model_zoo.adapters.recognise import recognise
from model_zoo.adapters.scores import keep_ratio_for
from model_zoo.classifier import NORMALISATIONS
from model_zoo.errors import DamagedFileError
from model_zoo.families import get_family

ORIGINAL, MASK = ".weight_orig", ".weight_mask"
OWN = ("flying-bird-cifar10", "flying-bird-cifar100")


def load_flying_bird(path: Path, request: Request) -> Imported:
    """Read a checkpoint; nothing in it is executed.

    Raises
    ------
    DamagedFileError
        As `read_checkpoint`, `recognise` and `fill` raise it, or if the normalisation is not one of the official code, or a weight that
        `mask_info` prunes is not zero.
    UsageError
        If the file does not exist, or a keep ratio was requested: the file already determines which weights are kept.
    """
    content = read_checkpoint(path)
    state = tensors(path, content)
    normalisation = _normalisation(path, state)
    has_masks = any(name.endswith(ORIGINAL) for name in state)
    state = _without_masks(path, state)
    notes = _check_mask_info(path, content, state)
    keep_ratio_for(path, False, request.keep_ratio)
    recognised = recognise(path, state)
    architecture = {**recognised.architecture, "normalisation": normalisation}
    model = fill(path, recognised.renamed(state), architecture, recognised.affine)
    family = get_family("robust-bird" if has_masks else "flying-bird")
    return describe(model, architecture, recognised.affine, str(family.method), family.taxonomy, notes=notes)


def _normalisation(path: Path, state: dict[str, torch.Tensor]) -> str:
    """Remove the normalisation's numbers from `state` and return its name in `NORMALISATIONS`."""
    mean, deviation = (take(path, state, f"normalize.{name}", (3,)) for name in ("mean", "std"))
    for name in OWN:
        expected = [torch.tensor(values) for values in NORMALISATIONS[name]]
        if torch.allclose(mean, expected[0], atol=1e-6) and torch.allclose(deviation, expected[1], atol=1e-6):
            return name
    description = f"mean {[round(float(value), 4) for value in mean]} and deviation {[round(float(value), 4) for value in deviation]}"
    raise DamagedFileError(path, "the normalisation of CIFAR-10 or CIFAR-100 in the official code", description)


def _without_masks(path: Path, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the state dict with weights multiplied by the masks of `torch.nn.utils.prune`."""
    remaining = dict(state)
    masked = {}
    for name in [name for name in state if name.endswith(ORIGINAL)]:
        layer = name.removesuffix(ORIGINAL)
        weight = remaining.pop(name)
        masked[f"{layer}.weight"] = weight * _check_binary(path, take(path, remaining, layer + MASK, tuple(weight.shape)), layer + MASK)
    return {**remaining, **masked}


def _check_mask_info(path: Path, content: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> list[str]:
    """Compare the masks in Flying Bird's file, named `<parameter>_<number>`, with the zeros of its weights, and return notes."""
    info = content.get("mask_info")
    if info is None:
        return []
    masks = info.get("masks") if isinstance(info, dict) else None
    if not isinstance(masks, dict) or not all(isinstance(mask, torch.Tensor) for mask in masks.values()):
        raise DamagedFileError(path, "mask_info with masks", "something else")
    zeros = 0
    for key, mask in masks.items():
        name = re.sub(r"_\d+$", "", str(key)).removeprefix("module.")
        if name not in state or state[name].shape != mask.shape:
            raise DamagedFileError(path, f"a mask of the shape of a weight ({key})", f"{list(mask.shape)}")
        kept = _check_binary(path, mask.float(), str(key)) == 1
        nonzero_count = int(((state[name] != 0) & ~kept).sum())
        if nonzero_count:
            raise DamagedFileError(path, f"zeros in {name!r} at the weights that mask_info prunes", f"{nonzero_count:,} nonzero weights")
        zeros += int(((state[name] == 0) & kept).sum())
    return [f"{zeros:,} weights are kept by mask_info and exactly 0, as new connections begin; they count as removed"] if zeros else []


def _check_binary(path: Path, mask: torch.Tensor, name: str) -> torch.Tensor:
    if not ((mask == 0) | (mask == 1)).all():
        raise DamagedFileError(path, f"zeros and ones in the mask {name!r}", "other numbers")
    return mask


ADAPTER = Adapter(
    name="flying-bird",
    reads="Flying Bird(+) and Robust Bird (Chen et al. 2022): model_RA_best.pth.tar",
    load=load_flying_bird,
    files="none by its authors; 12 by AdversarialPruningBenchmark (format apbench)",
)
