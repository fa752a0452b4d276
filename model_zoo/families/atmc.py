"""ATMC (Gui et al. 2019): factored weights, a global budget of nonzeros and few values per tensor, under adversarial training.

Every layer has W = U V + C, initially equal to a dense weight. In the first stage, all three are trained freely. In the second, only the
largest entries of all factors of all layers are kept after every step (a projection to the budget), while ADMM pulls each tensor towards
its k-means centres, one of which is zero. In the last, the assignment of entries to centres is fixed and the centres are trained, so
that tensors hold at most 2^bits values. The keep ratio counts nonzeros of all factors as a share of the dense network's weights.

There are two differences from the official code. It trains the dense weight first and then adds factors that are zero; to be kept, an
entry at zero has to exceed the smallest kept one within one optimiser step, which hardly any entry does. It also ends with ADMM's
quantised copy of weights that still differ from that copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from model_zoo.errors import UsageError
from model_zoo.families import Family
from model_zoo.layers.factored import FactoredConv2d, factored_layers
from model_zoo.pruning.clustering import assign, codes, fit_centres, means
from model_zoo.pruning.stages import FINETUNE, PRETRAIN, SEARCH, stage_of
from model_zoo.training.controller import Controller

BITS = (2, 8)


class Compression(Controller):
    """Controller that holds a network's factors to the budget and to few values.

    `targets` and `duals` are ADMM's Z and U, one long vector each. `codes` contains the centre of each entry within its tensor, once the
    assignment is fixed.
    """

    stored: ClassVar[tuple[str, ...]] = ("targets", "duals", "codes", "steps", "stage")

    def __init__(self, network: nn.Module, options: Mapping[str, Any]) -> None:
        least, most = BITS
        if not least <= options["bits"] <= most:
            raise UsageError(f"bits of a value: between {least} and {most}, not {options['bits']}")
        self.layers, self.options = factored_layers(network), dict(options)
        self.budget = round(options["keep_ratio"] * sum(layer.rest.numel() for layer in self.layers))
        total = sum(part.numel() for part in self.parts())
        self.targets, self.duals = torch.zeros(total), torch.zeros(total)
        self.codes = torch.zeros(total, dtype=torch.int16)
        self.steps, self.stage = torch.zeros((), dtype=torch.long), torch.zeros((), dtype=torch.long)

    def at_epoch(self, epoch: int, epochs: int) -> None:
        """Enter the stage that the epoch belongs to."""
        self.enter(stage_of({**self.options, "search_epochs": self.options["admm_epochs"]}, epoch, epochs))

    def parts(self) -> list[nn.Parameter]:
        """Return the factor tensors, layer by layer."""
        return [part for layer in self.layers for part in layer.factors()]

    def entries(self) -> torch.Tensor:
        """Return the entries of all factor tensors as one long vector."""
        return torch.cat([part.flatten() for part in self.parts()])

    def write(self, entries: torch.Tensor) -> None:
        """Copy one long vector into the factor tensors."""
        for part, values in zip(self.parts(), self.split(entries), strict=True):
            part.detach().copy_(values.view(part.shape))

    def split(self, entries: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Split one long vector into the flat parts of the factor tensors."""
        return entries.split([part.numel() for part in self.parts()])

    def penalty(self) -> torch.Tensor | float:
        """Return ADMM's penalty rho / 2 |W + U - Z|^2 in the second stage, 0 in the others."""
        if int(self.stage) != SEARCH:
            return 0.0
        return 0.5 * self.options["rho"] * (self.entries() + self.duals - self.targets).square().sum()

    def enter(self, stage: int) -> None:
        """Begin a stage, unless it has begun before."""
        if int(self.stage) >= stage:
            return
        self.stage.fill_(stage)
        with torch.no_grad():
            entries = self.project(self.entries())
            if stage == FINETUNE:
                parts = self.split(entries)
                self.codes.copy_(torch.cat([codes(part, self.centres(part)) for part in parts]))
            self.write(entries)
            if stage == FINETUNE:
                self.hold()
            else:
                self.targets.copy_(entries)

    def after_step(self, progress: float) -> None:
        """Project to the budget or, in the last stage, to the fixed centres."""
        if int(self.stage) == PRETRAIN:
            return
        with torch.no_grad():
            if int(self.stage) == FINETUNE:
                self.hold()
                return
            entries = self.project(self.entries())
            self.write(entries)
            self.steps += 1
            if int(self.steps) % self.options["every"] == 0:
                self.draw(entries)

    def project(self, entries: torch.Tensor) -> torch.Tensor:
        """Return the nearest vector that has at most as many nonzeros as the budget."""
        projected = torch.zeros_like(entries)
        largest = entries.abs().topk(self.budget, sorted=False).indices
        projected[largest] = entries[largest]
        return projected

    def centres(self, part: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Return the centres of one tensor, fitted to the entries in the mask `kept`, by default to those that are nonzero."""
        return fit_centres(part[part != 0 if kept is None else kept], 2 ** self.options["bits"])

    def draw(self, entries: torch.Tensor) -> None:
        """Update ADMM: targets become W + U with every tensor at its centres, and duals accumulate the remaining difference."""
        targets = []
        for part, shifted in zip(self.split(entries), self.split(entries + self.duals), strict=True):
            centres = self.centres(shifted, part != 0)
            targets.append(centres[assign(shifted, centres)])
        self.targets.copy_(torch.cat(targets))
        self.duals.add_(entries - self.targets)

    def hold(self) -> None:
        """Set all entries of one code to their mean, which gives the nearest tensors with few values; entries of code 0 become zero."""
        values = []
        for part, members in zip(self.split(self.entries()), self.split(self.codes.long()), strict=True):
            centres = means(part, members, part.new_zeros(2 ** self.options["bits"]))
            centres[0] = 0.0
            values.append(centres[members])
        self.write(torch.cat(values))


FAMILY = Family(
    name="atmc",
    kind="sparse",
    method="gui2019",
    taxonomy={"when": "after", "scored": "magnitude", "structured": False, "scope": "global"},
    convolution=lambda options: FactoredConv2d,
    affine=True,
    # Values nearest to the zero centre become zero, so the budget is not fully used.
    moves_keep_ratio=True,
    # A mean of projected factors has more nonzeros and more values than the budget allows.
    averages=False,
    defaults={"keep_ratio": float, "pretrain_epochs": int, "admm_epochs": int, "bits": 8, "rho": 0.1, "every": 10},
    controller=Compression,
)
