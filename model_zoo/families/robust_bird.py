"""Robust Bird (Chen et al. 2022): train on clean images until the mask of the largest weights settles, prune, train adversarially.

The official code compares masks after every epoch; `every` steps make a comparison here, so that short training has some.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from model_zoo.families import Family
from model_zoo.layers.masked import MaskedConv2d, masked_layers

# Masks that are compared with the newest one: the last five are watched.
HISTORY = 4


class EarlyBird(nn.Module):
    """Watches the global mask of the largest weights and prunes to it once it is close to the `HISTORY` masks before."""

    masks: torch.Tensor
    compared: torch.Tensor
    steps: torch.Tensor
    found: torch.Tensor

    def __init__(self, network: nn.Module, options: Mapping[str, Any]) -> None:
        super().__init__()
        # In a list of its own: the layers are already parts of the network.
        self.layers = [masked_layers(network)]
        self.options = dict(options)
        total = sum(layer.mask.numel() for layer in self.layers[0])
        self.register_buffer("masks", torch.zeros(HISTORY, total, dtype=torch.bool))
        for name in ("compared", "steps"):
            self.register_buffer(name, torch.zeros((), dtype=torch.long))
        self.register_buffer("found", torch.zeros((), dtype=torch.bool))

    def after_step(self, progress: float) -> None:
        """Called after an optimiser step."""
        if bool(self.found):
            return
        self.steps += 1
        if int(self.steps) % self.options["every"] == 0:
            self.compare()

    def compare(self) -> None:
        """Draw the mask; prune if it differs from none of the last ones in more than the tolerance, a share of all weights."""
        mask = self.largest()
        distances = [float((mask ^ other).float().mean()) for other in self.masks[: min(int(self.compared), HISTORY)]]
        self.masks = torch.cat([mask[None], self.masks[:-1]])
        self.compared += 1
        if len(distances) == HISTORY and max(distances) <= self.options["tolerance"]:
            self.prune()

    def largest(self) -> torch.Tensor:
        """Which of all weights, layer after layer, are among the largest of the whole network."""
        magnitudes = torch.cat([layer.weight.detach().abs().flatten() for layer in self.layers[0]])
        mask = torch.zeros_like(magnitudes, dtype=torch.bool)
        mask[magnitudes.topk(round(self.options["keep_ratio"] * len(magnitudes))).indices] = True
        return mask

    def prune(self) -> None:
        """Keep the largest weights of the whole network, from now on."""
        parts = self.largest().split([layer.mask.numel() for layer in self.layers[0]])
        for layer, part in zip(self.layers[0], parts, strict=True):
            layer.mask.copy_(part.view(layer.mask.shape))
        self.found.fill_(True)


def bird(network: nn.Module) -> EarlyBird:
    """The network's watcher."""
    found = network.get_submodule("early_bird")
    assert isinstance(found, EarlyBird)
    return found


def at_epoch(network: nn.Module, options: Mapping[str, Any], epoch: int, epochs: int) -> None:
    """Prune where `clean_epochs` have passed without the mask settling."""
    if epoch >= options["clean_epochs"] and not bool(bird(network).found):
        bird(network).prune()


FAMILY = Family(
    name="robust-bird",
    kind="sparse",
    method="chen2022-robust-bird",
    taxonomy={"when": "before", "scored": "magnitude", "structured": False, "scope": "global"},
    convolution=lambda options: MaskedConv2d,
    affine=True,
    defaults={"keep_ratio": None, "clean_epochs": None, "every": 50, "tolerance": 0.08},
    prepare=lambda network, options: network.add_module("early_bird", EarlyBird(network, options)),
    at_epoch=at_epoch,
    on_clean=lambda network: not bool(bird(network).found),
)
