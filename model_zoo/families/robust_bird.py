"""Robust Bird (Chen et al. 2022): train on clean images until the mask of the largest weights settles, prune, train adversarially.

The official code compares masks after every epoch; this code compares them after every `every` steps, so that short training runs have
comparisons as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from model_zoo.families import Family
from model_zoo.layers.masked import MaskedConv2d, masked_layers
from model_zoo.training.controller import Controller

# Number of masks that the newest one is compared with; with it, five masks are used.
HISTORY = 4


class EarlyBird(Controller):
    """Controller that prunes to the global mask of the largest weights once it is close to the previous `HISTORY` masks.

    `masks` contains the masks to compare with, the newest first; `compared` is the number of comparisons; `found` is true after pruning.
    """

    stored: ClassVar[tuple[str, ...]] = ("masks", "compared", "steps", "found")

    def __init__(self, network: nn.Module, options: Mapping[str, Any]) -> None:
        self.layers, self.options = masked_layers(network), dict(options)
        self.masks = torch.zeros(HISTORY, sum(layer.mask.numel() for layer in self.layers), dtype=torch.bool)
        self.compared, self.steps = torch.zeros((), dtype=torch.long), torch.zeros((), dtype=torch.long)
        self.found = torch.zeros((), dtype=torch.bool)

    def at_epoch(self, epoch: int, epochs: int) -> None:
        """Prune if `clean_epochs` have passed without the mask settling."""
        if epoch >= self.options["clean_epochs"] and not bool(self.found):
            self.prune()

    def on_clean(self) -> bool:
        """Return whether the network has not been pruned yet."""
        return not bool(self.found)

    def after_step(self, progress: float) -> None:
        """Compare masks after every `every` steps until the network is pruned."""
        if bool(self.found):
            return
        self.steps += 1
        if int(self.steps) % self.options["every"] == 0:
            self.compare()

    def compare(self) -> None:
        """Compute the mask, and prune if it differs from each of the last ones by at most `tolerance`, a share of all weights."""
        mask = self.largest()
        distances = [float((mask ^ previous).float().mean()) for previous in self.masks[: min(int(self.compared), HISTORY)]]
        self.masks = torch.cat([mask[None], self.masks[:-1]])
        self.compared += 1
        if len(distances) == HISTORY and max(distances) <= self.options["tolerance"]:
            self.prune()

    def largest(self) -> torch.Tensor:
        """Return bool [weights], layer after layer: whether each weight is among the largest of the whole network."""
        magnitudes = torch.cat([layer.weight.detach().abs().flatten() for layer in self.layers])
        mask = torch.zeros_like(magnitudes, dtype=torch.bool)
        mask[magnitudes.topk(round(self.options["keep_ratio"] * len(magnitudes))).indices] = True
        return mask

    def prune(self) -> None:
        """Set the masks to the largest weights of the whole network; they do not change afterwards."""
        parts = self.largest().split([layer.mask.numel() for layer in self.layers])
        for layer, part in zip(self.layers, parts, strict=True):
            layer.mask.copy_(part.view(layer.mask.shape))
        self.found.fill_(True)


FAMILY = Family(
    name="robust-bird",
    kind="sparse",
    method="chen2022-robust-bird",
    taxonomy={"when": "before", "scored": "magnitude", "structured": False, "scope": "global"},
    is_masked=True,
    convolution=lambda options: MaskedConv2d,
    affine=True,
    defaults={"keep_ratio": float, "clean_epochs": int, "every": 50, "tolerance": 0.08},
    controller=EarlyBird,
)
