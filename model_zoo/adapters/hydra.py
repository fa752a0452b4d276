"""Checkpoints of HYDRA's code (Sehwag et al. 2020; github.com/inspire-group/hydra, commit 9d41c93).

Every model has two files: `model_best_dense.pth.tar`, in which pruned weights are zero, and `model_best.pth.tar` with weights and
`popup_scores`, for which the keep ratio must be known. Images are not normalised. Wide ResNets contain an unused `sub_block1`.
"""

from __future__ import annotations

from pathlib import Path

import torch

from model_zoo.adapters import Adapter, Imported, Request
from model_zoo.adapters.checkpoint import read_checkpoint, tensors
from model_zoo.adapters.describe import describe, without
from model_zoo.adapters.fill import fill
from model_zoo.adapters.recognise import recognise
from model_zoo.adapters.scores import keep_ratio_for, masks_of
from model_zoo.families import get_family
from model_zoo.layers.pruned_binary import keep_count

SCORES = ".popup_scores"
DEAD = "sub_block1."
# Prefix of names from the official code's wrapper around the network.
PREFIXES = ("basic_model.",)


def load_hydra(path: Path, request: Request) -> Imported:
    """Read a checkpoint; nothing in it is executed.

    Raises
    ------
    DamagedFileError, UsageError
        As `read_checkpoint`, `keep_ratio_for`, `recognise` and `fill` raise them.
    """
    state, left_out = without(tensors(path, read_checkpoint(path), prefixes=PREFIXES), DEAD)
    plain = {name: tensor for name, tensor in state.items() if not name.endswith(SCORES)}
    recognised = recognise(path, plain)
    masks = masks_of(path, state, SCORES, recognised.rename)
    keep_ratio = keep_ratio_for(path, bool(masks.scores), request.keep_ratio)

    def effective(name: str, weight: torch.Tensor) -> torch.Tensor:
        return weight if keep_ratio is None else weight * masks.mask(name, weight, keep_count(weight.numel(), keep_ratio))

    architecture = {**recognised.architecture, "normalisation": "none"}
    model = fill(path, recognised.renamed(plain), architecture, recognised.affine, effective)
    masks.all_used(architecture)
    family = get_family("hydra")
    return describe(model, architecture, recognised.affine, str(family.method), family.taxonomy, masks=masks, left_out=left_out)


ADAPTER = Adapter(
    name="hydra",
    reads="HYDRA (Sehwag et al. 2020): model_best_dense.pth.tar, or model_best.pth.tar with its keep ratio",
    load=load_hydra,
    files="Dropbox folders linked from the README of github.com/inspire-group/hydra",
)
