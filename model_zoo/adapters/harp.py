"""Checkpoints of HARP's code (Zhao and Wressnegger 2023; github.com/intellisec/harp, commit 9f343c0), weights pruned one by one.

As HYDRA's, with a learned rate for every layer, `k_score`, from which the layer's keep ratio follows together with the target keep ratio
that was typed in for training: sigmoid(k_score) (1 - k_min) + k_min, where k_min is a tenth of the target. Images are not normalised.
"""

from __future__ import annotations

from pathlib import Path

import torch

from model_zoo.adapters import Adapter, Imported, Request
from model_zoo.adapters.checkpoint import read_checkpoint, tensors
from model_zoo.adapters.describe import describe, without
from model_zoo.adapters.fill import fill, nothing_left, take
from model_zoo.adapters.hydra import DEAD, PREFIXES, SCORES
from model_zoo.adapters.recognise import recognise
from model_zoo.adapters.scores import keep_ratio_for, masks_of
from model_zoo.families import get_family

RATE = ".k_score"
# The official `alpha`: the lowest keep ratio of a layer, as a share of the target.
LOWEST = 0.1


def load_harp(path: Path, request: Request) -> Imported:
    """Read a checkpoint; nothing in it is executed.

    Raises
    ------
    DamagedFileError, UsageError
        As `load_hydra`; where whole channels were pruned, too, because the scores then have another shape than the weights.
    """
    state, left_out = without(tensors(path, read_checkpoint(path), prefixes=PREFIXES), DEAD)
    plain = {name: tensor for name, tensor in state.items() if not name.endswith((SCORES, RATE))}
    found = recognise(path, plain)
    masks = masks_of(path, state, SCORES, found.rename)
    rates = {found.rename(name).removesuffix(RATE): tensor for name, tensor in state.items() if name.endswith(RATE)}
    target = keep_ratio_for(path, bool(masks.scores), request.keep_ratio)
    notes = []
    if rates and not masks.scores:
        rates = {}
        notes.append("HARP's code writes dense files with one keep ratio for all layers, not the learned ones: prefer the file with scores")

    def effective(name: str, weight: torch.Tensor) -> torch.Tensor:
        if target is None:
            return weight
        return weight * masks.mask(name, weight, kept_by_rate(take(path, rates, name, ()), target, weight.numel()))

    architecture = {**found.architecture, "normalisation": "none"}
    model = fill(path, found.renamed(plain), architecture, found.affine, effective)
    masks.all_used(architecture)
    nothing_left(path, rates, architecture)
    family = get_family("harp")
    return describe(model, architecture, found.affine, str(family.method), family.taxonomy, masks=masks, left_out=left_out, notes=notes)


def kept_by_rate(score: torch.Tensor, target: float, weights: int) -> int:
    """How many of a layer's weights its learned rate keeps; in float32, as the official code computes it."""
    lowest = target * LOWEST
    rate = torch.sigmoid(score) * (1 - lowest) + lowest
    return weights - int((1 - rate) * weights)


ADAPTER = Adapter(
    name="harp",
    reads="HARP (Zhao and Wressnegger 2023), unstructured: model_best.pth.tar with its target keep ratio",
    load=load_harp,
    files="pretrained ones: download_pretrain.sh of github.com/intellisec/harp; pruned ones: AdversarialPruningBenchmark (format apbench)",
)
