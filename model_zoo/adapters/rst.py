"""Checkpoints of robust scratch tickets (Fu et al. 2021; github.com/GATECH-EIC/Robust-Scratch-Ticket, commit f77b41c).

Weights are signed constants, each with a score; the keep ratio, the same for all layers, must be known (the official `--prune-rate` is the
fraction kept). The normalisation is outside the network, in the data loader, with different constants from other codes; any other
normalisation changes the accuracy by percentage points without an error. The classifier is a 1x1 convolution.
"""

from __future__ import annotations

from pathlib import Path

import torch

from model_zoo.adapters import Adapter, Imported, Request
from model_zoo.adapters.checkpoint import read_checkpoint, tensors
from model_zoo.adapters.describe import describe
from model_zoo.adapters.fill import fill
from model_zoo.adapters.recognise import recognise
from model_zoo.adapters.scores import keep_ratio_for, masks_of
from model_zoo.families import get_family
from model_zoo.layers.pruned_binary import keep_count

SCORES = ".scores"
NORMALISATION = "edge-popup-loader"


def load_rst(path: Path, request: Request) -> Imported:
    """Read a checkpoint; nothing in it is executed. Fine-tuned tickets become "sparse" models with float weights.

    Raises
    ------
    DamagedFileError, UsageError
        As `read_checkpoint`, `keep_ratio_for`, `recognise` and `fill` raise them.
    """
    state = tensors(path, read_checkpoint(path))
    plain = {name: tensor for name, tensor in state.items() if not name.endswith(SCORES)}
    recognised = recognise(path, plain)
    masks = masks_of(path, state, SCORES, recognised.rename)
    keep_ratio = keep_ratio_for(path, bool(masks.scores), request.keep_ratio)

    def effective(name: str, weight: torch.Tensor) -> torch.Tensor:
        return weight if keep_ratio is None else weight * masks.mask(name, weight, keep_count(weight.numel(), keep_ratio))

    architecture = {**recognised.architecture, "normalisation": NORMALISATION}
    model = fill(path, recognised.renamed(plain), architecture, recognised.affine, effective)
    masks.all_used(architecture)
    family = get_family("rst")
    return describe(model, architecture, recognised.affine, str(family.method), family.taxonomy, masks=masks)


ADAPTER = Adapter(
    name="rst",
    reads="robust scratch tickets (Fu et al. 2021): model_best.pth with its keep ratio",
    load=load_rst,
    files="none by its authors; 6 by AdversarialPruningBenchmark (format apbench)",
)
