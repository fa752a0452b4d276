"""Checkpoints of HARP's code (Zhao and Wressnegger 2023; github.com/intellisec/harp, commit 9f343c0), weights pruned one by one.

The files are those of HYDRA with a learned rate per layer, `k_score`. The layer's keep ratio is sigmoid(k_score) (1 - k_min) + k_min, where
k_min is a tenth of the target keep ratio, which was an argument of training and is not in the file. Images are not normalised.
"""

from __future__ import annotations

from pathlib import Path

import torch

from model_zoo.adapters import Adapter, Imported, Request
from model_zoo.adapters.checkpoint import read_checkpoint, tensors
from model_zoo.adapters.describe import describe, without
from model_zoo.adapters.fill import check_all_used, fill, take
from model_zoo.adapters.hydra import DEAD, PREFIXES, SCORES
from model_zoo.adapters.recognise import recognise
from model_zoo.adapters.scores import keep_ratio_for, masks_of
from model_zoo.families import get_family

RATE = ".k_score"
# The official code's `alpha`: the lowest keep ratio of a layer as a share of the target.
LOWEST = 0.1


def load_harp(path: Path, request: Request) -> Imported:
    """Read a checkpoint; nothing in it is executed.

    Raises
    ------
    DamagedFileError
        As `load_hydra` raises it, and if whole channels were pruned, because the scores then have another shape than the weights.
    UsageError
        As `load_hydra` raises it.
    """
    state, left_out = without(tensors(path, read_checkpoint(path), prefixes=PREFIXES), DEAD)
    plain = {name: tensor for name, tensor in state.items() if not name.endswith((SCORES, RATE))}
    recognised = recognise(path, plain)
    masks = masks_of(path, state, SCORES, recognised.rename)
    rates = {recognised.rename(name).removesuffix(RATE): tensor for name, tensor in state.items() if name.endswith(RATE)}
    target = keep_ratio_for(path, bool(masks.scores), request.keep_ratio)
    notes = []
    if rates and not masks.scores:
        rates = {}
        notes.append("HARP's code writes dense files with one keep ratio for all layers, not the learned ones: prefer the file with scores")

    def effective(name: str, weight: torch.Tensor) -> torch.Tensor:
        if target is None:
            return weight
        return weight * masks.mask(name, weight, kept_by_rate(take(path, rates, name, ()), target, weight.numel()))

    architecture = {**recognised.architecture, "normalisation": "none"}
    model = fill(path, recognised.renamed(plain), architecture, recognised.affine, effective)
    masks.all_used(architecture)
    check_all_used(path, rates, architecture)
    family = get_family("harp")
    return describe(
        model, architecture, recognised.affine, str(family.method), family.taxonomy, masks=masks, left_out=left_out, notes=notes
    )


def kept_by_rate(score: torch.Tensor, target: float, weights: int) -> int:
    """Return how many of a layer's `weights` its `k_score` keeps at the target keep ratio, in float32 as in the official code."""
    lowest = target * LOWEST
    rate = torch.sigmoid(score) * (1 - lowest) + lowest
    return weights - int((1 - rate) * weights)


ADAPTER = Adapter(
    name="harp",
    reads="HARP (Zhao and Wressnegger 2023), unstructured: model_best.pth.tar with its target keep ratio",
    load=load_harp,
    files="pretrained ones: download_pretrain.sh of github.com/intellisec/harp; pruned ones: AdversarialPruningBenchmark (format apbench)",
)
