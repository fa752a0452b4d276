"""Checkpoints of biprop (Diffenderfer and Kailkhura 2021; github.com/chrundle/biprop, commit f709fc5): multi-prize tickets MPT-1/32.

The file contains real weights W and scores. A layer computes with alpha sign(W) on the weights that its scores keep; alpha is the sum of
the kept |W| divided by int(k n), which is one less than the number of kept weights unless k n is an integer. Networks pruned over all
layers at once (`GlobalSubnetConv`) keep the weights whose |score| is above one threshold, and divide by their number. Newer files name keep
ratio and kind. The normalisation is outside the network, as in robust scratch tickets. Published models were trained on clean images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from model_zoo.adapters import Adapter, Imported, Request
from model_zoo.adapters.checkpoint import read_checkpoint, tensors
from model_zoo.adapters.describe import describe
from model_zoo.adapters.fill import fill
from model_zoo.adapters.recognise import recognise
from model_zoo.adapters.rst import NORMALISATION, SCORES
from model_zoo.adapters.scores import Masks, keep_ratio_for, masks_of
from model_zoo.errors import DamagedFileError, UsageError
from model_zoo.families import get_family
from model_zoo.layers.pruned_binary import keep_count

LAYERWISE, GLOBAL = "SubnetConv", "GlobalSubnetConv"


def load_biprop(path: Path, request: Request) -> Imported:
    """Read a checkpoint; nothing in it is executed.

    Raises
    ------
    DamagedFileError
        As `read_checkpoint`, `recognise` and `fill` raise it, or if activations are binary too, the kind of layers is unknown, or a layer
        keeps no weights.
    UsageError
        As `read_checkpoint` and `keep_ratio_for` raise it, or if the file names another keep ratio than the requested one.
    """
    content = read_checkpoint(path)
    if "BinAct" in str(content.get("arch", "")):
        raise DamagedFileError(path, "a network of float activations", f"{content['arch']}, whose activations are binary")
    state = tensors(path, content)
    plain = {name: tensor for name, tensor in state.items() if not name.endswith(SCORES)}
    recognised = recognise(path, plain)
    masks = masks_of(path, state, SCORES, recognised.rename)
    keep_ratio = _keep_ratio(path, content, request.keep_ratio)
    keep_ratio = keep_ratio_for(path, bool(masks.scores), keep_ratio)
    kind = str(content.get("conv_type", LAYERWISE))
    if kind not in (LAYERWISE, GLOBAL):
        raise DamagedFileError(path, f"layers of the kind {LAYERWISE} or {GLOBAL}", kind)
    threshold = _threshold(masks, keep_ratio) if kind == GLOBAL and keep_ratio is not None else None

    def effective(name: str, weight: torch.Tensor) -> torch.Tensor:
        if keep_ratio is None:
            return weight
        if threshold is None:
            mask = masks.mask(name, weight, keep_count(weight.numel(), keep_ratio))
            divisor = int(keep_ratio * weight.numel())
        else:
            kept = int((masks.scores.get(f"{name}.scores", torch.zeros(0)).abs() > threshold).sum())
            mask = masks.mask(name, weight, kept) if kept else torch.zeros_like(weight)
            divisor = kept
        if not divisor:
            raise DamagedFileError(path, f"kept weights in {name!r}", f"none at keep ratio {keep_ratio:g}")
        return torch.sign(weight) * mask * ((weight.abs() * mask).sum() / divisor)

    architecture = {**recognised.architecture, "normalisation": NORMALISATION}
    model = fill(path, recognised.renamed(plain), architecture, recognised.affine, effective)
    masks.all_used(architecture)
    family = get_family("biprop")
    taxonomy = {**family.taxonomy, "scope": "global"} if kind == GLOBAL else family.taxonomy
    return describe(model, architecture, recognised.affine, str(family.method), taxonomy, masks=masks)


def _keep_ratio(path: Path, content: dict[str, Any], requested: float | None) -> float | None:
    stored = content.get("prune_rate")
    if not isinstance(stored, float):
        return requested
    if requested is not None and requested != stored:
        raise UsageError(f"{path} was trained with keep ratio {stored:g}, not {requested:g}")
    return stored


def _threshold(masks: Masks, keep_ratio: float) -> float:
    """Return the |score| above which a weight of any layer is kept."""
    ranks = torch.cat([scores.abs().flatten() for scores in masks.scores.values()]).sort().values
    return float(ranks[int((1 - keep_ratio) * ranks.numel()) - 1])


ADAPTER = Adapter(
    name="biprop",
    reads="biprop's multi-prize tickets with float activations (Diffenderfer and Kailkhura 2021): model_best.pth",
    load=load_biprop,
    files="pretrained/ of github.com/chrundle/biprop, in git-LFS",
)
