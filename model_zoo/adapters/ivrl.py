"""Checkpoints of the paper's official code (github.com/IVRL/RobustBinarySubNet, commit 3c5bd5d) as frozen models.

Such a file contains float weights and, for pruned networks, float scores, but no masks. The masks follow from the keep ratio and the
allocation power, which were arguments of training. Wrong values give another network without any error, so the clean accuracy should be
compared. Keys may have the prefixes of DataParallel (`module.`) and of the preceding normalisation (`1.`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model_zoo.adapters import Adapter, Imported, Request
from model_zoo.adapters.checkpoint import read_checkpoint, tensors
from model_zoo.adapters.fill import fill, layers
from model_zoo.adapters.recognise import recognise
from model_zoo.adapters.scores import masks_of
from model_zoo.errors import UsageError
from model_zoo.families import get_family
from model_zoo.layers.signs import sign
from model_zoo.packing.frozen import effective_weights
from model_zoo.packing.weights import magnitudes
from model_zoo.pruning.allocation import layer_keep_counts

# `binweight` is the sign of the latent weight, which is recomputed here.
SCORES, SIGNS = ".scores", ".binweight"


def load_ivrl(path: Path, request: Request) -> Imported:
    """Read a checkpoint; nothing in it is executed.

    Raises
    ------
    DamagedFileError
        If the file is not a checkpoint, or a tensor is missing, superfluous or of another shape.
    UsageError
        If the file does not exist, if it has scores but the keep ratio or the allocation power is not given, or if both are given and it
        has no scores.
    """
    state = _by_our_names(tensors(path, read_checkpoint(path), prefixes=("1.",)))
    plain = {name: tensor for name, tensor in state.items() if not name.endswith((SCORES, SIGNS))}
    is_latent = any(name.endswith(SIGNS) for name in state)
    masks = masks_of(path, state, SCORES, str)
    if bool(masks.scores) != (request.keep_ratio is not None and request.allocation_power is not None):
        hint = "pass the keep ratio and the allocation power that it was trained with (--keep-ratio, --allocation-power)"
        raise UsageError(f"{path} " + (f"has scores: {hint}" if masks.scores else "has no scores: it was not pruned"))
    architecture, affine = _architecture(path, plain, request)
    counts: dict[str, int] = {}
    if masks.scores and request.keep_ratio is not None and request.allocation_power is not None:
        sizes = {name: layer.weight.numel() for name, layer in layers(architecture, affine) if isinstance(layer, nn.Conv2d)}
        counts = dict(zip(sizes, layer_keep_counts(list(sizes.values()), request.keep_ratio, request.allocation_power), strict=True))

    def effective(name: str, weight: torch.Tensor) -> torch.Tensor:
        if counts:
            return weight * masks.mask(name, weight, counts[name])
        return sign(weight) if is_latent else weight

    model = fill(path, plain, architecture, affine, effective)
    masks.all_used(architecture)
    # Networks of the paper's ablation have real magnitudes, as they were drawn, and are then not binary.
    is_binary = magnitudes(effective_weights(model)) is not None
    kind = ("pruned-binary" if is_binary else "sparse") if counts else "dense-binary" if is_latent else "dense"
    family = get_family("pruned-binary" if counts else kind)
    return Imported(
        model=model,
        family=kind,
        method=family.method or "madry2018",
        architecture=architecture,
        affine=affine,
        weight_bits=1 if is_binary else 32,
        keep_ratio=request.keep_ratio,
        allocation_power=request.allocation_power,
        taxonomy=family.taxonomy,
        zeros=masks.zeros,
        ties=masks.ties,
    )


def _by_our_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the two layers outside the stem and the stages to `fc` (the classifier) and `last_bn` (the last batch norm)."""
    layer_names = {name.split(".")[0] for name in state} - {"conv1", "bn1"} - {f"layer{number}" for number in range(1, 5)}
    new_names = {name: "last_bn" if f"{name}.running_mean" in state else "fc" for name in layer_names}
    renamed = {}
    for name, tensor in state.items():
        first, _, rest = name.partition(".")
        renamed[f"{new_names.get(first, first)}.{rest}"] = tensor
    return renamed


def _architecture(path: Path, state: Mapping[str, torch.Tensor], request: Request) -> tuple[dict[str, Any], bool]:
    """Return the requested or recognised architecture, with its last batch norm, and whether batch norms are affine."""
    last_batch_norm = "none" if "last_bn.running_mean" not in state else "affine" if "last_bn.weight" in state else "plain"
    normalisation = "imagenet" if request.dataset == "imagenet100" else request.dataset
    if request.architecture is not None:
        width = {} if request.width is None else {"width": request.width}
        architecture: dict[str, Any] = {"name": request.architecture, "classes": request.classes, **width}
    else:
        architecture = recognise(path, {name: tensor for name, tensor in state.items() if not name.startswith("last_bn.")}).architecture
        architecture.pop("head_bias")
    return {**architecture, "last_batch_norm": last_batch_norm, "normalisation": normalisation}, "bn1.weight" in state


ADAPTER = Adapter(
    name="ivrl",
    reads="the paper's official code (Liu et al. 2022): model_best.pth with its keep ratio and allocation power",
    load=load_ivrl,
    files="nine links in the README of github.com/IVRL/RobustBinarySubNet",
)
