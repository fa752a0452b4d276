"""ATMC (Gui et al. 2019): factored weights, a global budget of nonzeros and few values per tensor, under adversarial training.

Every layer has W = U V + C, initially equal to a dense weight. In the first stage, all three are trained freely. In the second, only the
largest entries of all factors of all layers are kept after every step (a projection to the budget), while ADMM pulls each tensor towards
its k-means centres, one of which is zero. In the last, the assignment of entries to centres is fixed and the centres are trained, so
that tensors hold at most 2^bits values. The keep ratio counts nonzeros of all factors as a share of the dense network's weights.

With one bit per value, the layers are plain: a product of binary factors would not be binary. Kept weights become -alpha or +alpha, with
one alpha per layer. With 32 bits, nothing is quantised: the last stage trains the kept entries. The kept entries are allocated over the
whole network, as in the original, or to layers by an allocation power, which ATMC's comparison in Liu et al. (2022) uses as well.

There are two differences from the official code. It trains the dense weight first and then adds factors that are zero; to be kept, an
entry at zero has to exceed the smallest kept one within one optimiser step, which hardly any entry does. It also ends with ADMM's
quantised copy of weights that still differ from that copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn

from model_zoo.families import Convolution, Family
from model_zoo.layers.factored import FactoredConv2d
from model_zoo.pruning.allocation import GLOBAL, allocated_counts, check_allocation
from model_zoo.pruning.quantisers import make_quantiser
from model_zoo.pruning.stages import FINETUNE, PRETRAIN, SEARCH, stage_of
from model_zoo.training.controller import Controller


class Compression(Controller):
    """Controller that holds a network's factors, or its plain weights, to the budget and to few values.

    `targets` and `duals` are ADMM's Z and U, one long vector each. `codes` contains the centre of each entry within its tensor, once the
    assignment is fixed.
    """

    stored: ClassVar[tuple[str, ...]] = ("targets", "duals", "codes", "steps", "stage")

    def __init__(self, network: nn.Module, options: Mapping[str, Any]) -> None:
        check_allocation(options["allocation"])
        self.options, self.quantiser = dict(options), make_quantiser(options["bits"])
        layers = [layer for layer in network.modules() if isinstance(layer, (FactoredConv2d, nn.Conv2d))]
        # The tensors whose entries are counted, layer by layer.
        self.layers = [layer.factors() if isinstance(layer, FactoredConv2d) else list(layer.parameters()) for layer in layers]
        lengths = [sum(part.numel() for part in parts) for parts in self.layers]
        # The last tensor of every layer has the shape of the dense network's weight.
        weights = [parts[-1] for parts in self.layers]
        self.budgets = allocated_counts(weights, options)
        self.lengths = lengths
        if options["allocation"] == GLOBAL:
            self.lengths, self.budgets = [sum(lengths)], [sum(self.budgets)]
        total = sum(lengths)
        self.targets, self.duals = torch.zeros(total), torch.zeros(total)
        self.codes = torch.zeros(total, dtype=torch.int16)
        self.steps, self.stage = torch.zeros((), dtype=torch.long), torch.zeros((), dtype=torch.long)

    def at_epoch(self, epoch: int, epochs: int) -> None:
        """Enter the stage that the epoch belongs to."""
        self.enter(stage_of({**self.options, "search_epochs": self.options["admm_epochs"]}, epoch, epochs))

    def parts(self) -> list[nn.Parameter]:
        """Return the tensors whose entries are counted, layer by layer."""
        return [part for parts in self.layers for part in parts]

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
        """Return ADMM's penalty rho / 2 |W + U - Z|^2 in the second stage, 0 in the others and if nothing is quantised."""
        if int(self.stage) != SEARCH or self.quantiser.is_exact:
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
                self.codes.copy_(torch.cat([self.quantiser.codes(part) for part in self.split(entries)]))
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
        """Return the nearest vector that has at most as many nonzeros as the budgets."""
        projected = torch.zeros_like(entries)
        for values, target, budget in zip(entries.split(self.lengths), projected.split(self.lengths), self.budgets, strict=True):
            largest = values.abs().topk(budget, sorted=False).indices
            target[largest] = values[largest]
        return projected

    def draw(self, entries: torch.Tensor) -> None:
        """Update ADMM: targets become W + U with every tensor at its values, and duals accumulate the remaining difference."""
        shifted = zip(self.split(entries), self.split(entries + self.duals), strict=True)
        self.targets.copy_(torch.cat([self.quantiser.nearest(values, part != 0) for part, values in shifted]))
        self.duals.add_(entries - self.targets)

    def hold(self) -> None:
        """Move the entries to the nearest tensors that have the fixed codes."""
        parts = zip(self.split(self.entries()), self.split(self.codes.long()), strict=True)
        self.write(torch.cat([self.quantiser.hold(part, members) for part, members in parts]))


def convolution(options: Mapping[str, Any]) -> Convolution:
    """Return the layer factory: factored layers, or plain ones for one bit per value."""
    return partial(nn.Conv2d, bias=False) if options["bits"] == 1 else FactoredConv2d


FAMILY = Family(
    name="atmc",
    kind="sparse",
    method="gui2019",
    taxonomy={"when": "after", "scored": "magnitude", "structured": False, "scope": "global"},
    convolution=convolution,
    affine=True,
    # Values nearest to the zero centre become zero, so the budget is not fully used.
    moves_keep_ratio=True,
    # A mean of projected factors has more nonzeros and more values than the budget allows.
    averages=False,
    defaults={"keep_ratio": float, "pretrain_epochs": int, "admm_epochs": int, "bits": 8, "rho": 0.1, "every": 10},
    added={"allocation": GLOBAL, "allocation_power": 1.0},
    controller=Compression,
)
