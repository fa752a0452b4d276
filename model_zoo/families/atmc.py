"""ATMC (Gui et al. 2019): factors, a global budget of nonzeros and few values a tensor, all under adversarial training.

W = U V + C in every layer, equal to a dense weight to begin with. First all three are trained freely. Then after every step only the
largest entries of all factors of all layers stay (a projection to the budget), while ADMM draws each tensor towards its k-means centres,
one of them zero. In the end which entry has which centre is fixed and the centres are trained: tensors then hold at most 2^bits values.
The keep ratio counts nonzeros of all factors as a share of the dense network's weights.

Two things differ from the official code. It trains the dense weight first and adds zero factors then; an entry at zero has to pass the
smallest that is kept within one step of the optimiser, and hardly any does. It ends with ADMM's quantised copy of weights that still
differ from it.
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
    """Holds the factors of a network to the budget, and to their values: `targets` and `duals` are ADMM's Z and U, one long vector each.

    `codes` says which centre of its tensor an entry has, once that is fixed.
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
        """Enter the stage that the epoch is in."""
        self.enter(stage_of({**self.options, "search_epochs": self.options["admm_epochs"]}, epoch, epochs))

    def parts(self) -> list[nn.Parameter]:
        """The tensors, layer after layer."""
        return [part for layer in self.layers for part in layer.factors()]

    def entries(self) -> torch.Tensor:
        """All their entries, one long vector."""
        return torch.cat([part.flatten() for part in self.parts()])

    def write(self, entries: torch.Tensor) -> None:
        """Give all tensors the values of one long vector."""
        for part, values in zip(self.parts(), self.split(entries), strict=True):
            part.detach().copy_(values.view(part.shape))

    def split(self, entries: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The parts of one long vector that belong to each tensor."""
        return entries.split([part.numel() for part in self.parts()])

    def penalty(self) -> torch.Tensor | float:
        """ADMM's pull to the targets, rho / 2 |W + U - Z|^2; added to the loss."""
        if int(self.stage) != SEARCH:
            return 0.0
        return 0.5 * self.options["rho"] * (self.entries() + self.duals - self.targets).square().sum()

    def enter(self, stage: int) -> None:
        """Begin a stage, once."""
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
        """Project to the budget, or to the fixed centres in the last stage."""
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
        """The nearest vector with no more nonzeros than the budget."""
        projected = torch.zeros_like(entries)
        largest = entries.abs().topk(self.budget, sorted=False).indices
        projected[largest] = entries[largest]
        return projected

    def centres(self, part: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Of one tensor, fitted to its entries that are `kept`, by default those that are not zero."""
        return fit_centres(part[part != 0 if kept is None else kept], 2 ** self.options["bits"])

    def draw(self, entries: torch.Tensor) -> None:
        """ADMM's update: targets are W + U with every tensor at its centres, duals gather what is left between."""
        wanted = []
        for part, moved in zip(self.split(entries), self.split(entries + self.duals), strict=True):
            centres = self.centres(moved, part != 0)
            wanted.append(centres[assign(moved, centres)])
        self.targets.copy_(torch.cat(wanted))
        self.duals.add_(entries - self.targets)

    def hold(self) -> None:
        """Give all entries of one code their mean: the nearest tensors of few values. Zeros stay."""
        held = []
        for part, members in zip(self.split(self.entries()), self.split(self.codes.long()), strict=True):
            centres = means(part, members, part.new_zeros(2 ** self.options["bits"]))
            centres[0] = 0.0
            held.append(centres[members])
        self.write(torch.cat(held))


FAMILY = Family(
    name="atmc",
    kind="sparse",
    method="gui2019",
    taxonomy={"when": "after", "scored": "magnitude", "structured": False, "scope": "global"},
    convolution=lambda options: FactoredConv2d,
    affine=True,
    # Values that are nearest to the centre at zero leave the budget unused.
    moves_keep_ratio=True,
    # A mean of projected factors has more nonzeros and more values than the budget allows.
    averages=False,
    defaults={"keep_ratio": None, "pretrain_epochs": None, "admm_epochs": None, "bits": 8, "rho": 0.1, "every": 10},
    controller=Compression,
)
