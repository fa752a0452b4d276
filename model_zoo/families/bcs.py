"""Bayesian connectivity sampling (Özdenizci and Legenstein 2021): magnitudes that reach zero disconnect, random others connect.

With binary weights, the network computes with the fixed signs of its connections; magnitudes are latent, get the gradient of their
connection unchanged, and only decide when it ends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from model_zoo.families import Family
from model_zoo.layers.masked import MaskedConv2d, masked_layers, with_weights
from model_zoo.layers.signs import sign
from model_zoo.pruning.regrowth import grow_random
from model_zoo.training.controller import Controller

# Magnitude of a new connection.
NEW = 1e-12
# Initial density of the first and the last layer; the others start at half the keep ratio, and missing connections are added at once.
ENDS, OTHERS = 0.6, 0.5


class SignedConv2d(MaskedConv2d):
    """Masked convolution whose weight is a fixed random sign times `weight`, a magnitude that is positive where connected."""

    signs: torch.Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding)
        with torch.no_grad():
            self.register_buffer("signs", sign(torch.randn(self.weight.shape)))
            self.weight.copy_(nn.init.kaiming_normal_(torch.empty(self.weight.shape), nonlinearity="relu").abs())

    def effective_weight(self) -> torch.Tensor:
        """Return sign times magnitude where connected, zero elsewhere."""
        return self.signs * super().effective_weight()


class Connectivity(Controller):
    """Controller that changes connections after every step.

    It adds noise to connected magnitudes, disconnects those at or below zero, and adds as many connections as are missing. New
    connections are drawn over the whole network, layers in proportion to their size, so the total is constant while the densities of
    layers vary.
    """

    stored: ClassVar[tuple[str, ...]] = ("steps",)

    def __init__(self, network: nn.Module, options: Mapping[str, Any]) -> None:
        self.layers = masked_layers(network)
        sizes = [layer.mask.numel() for layer in self.layers]
        self.total = round(options["keep_ratio"] * sum(sizes))
        self.noise = options["noise"]
        self.seed = int(torch.randint(2**31, ()))
        self.steps = torch.zeros((), dtype=torch.long)
        for number, layer in enumerate(self.layers):
            density = ENDS if number in (0, len(sizes) - 1) else OTHERS * options["keep_ratio"]
            layer.keep_top(torch.rand(layer.mask.shape), round(density * layer.mask.numel()))
        self.after_step(0.0)

    def after_step(self, progress: float) -> None:
        """Disconnect and connect after an optimiser step; the noise follows half a cosine to zero, like the learning rate."""
        temperature = 0.5 * (1.0 + math.cos(math.pi * progress))
        generator = torch.Generator().manual_seed(self.seed + int(self.steps))
        self.steps += 1
        with torch.no_grad():
            for layer in self.layers:
                noise = torch.randn(layer.weight.shape, generator=generator).to(layer.weight)
                layer.weight.add_(noise * layer.mask, alpha=self.noise * temperature)
                layer.mask.mul_(layer.weight > 0)
                # The optimiser's momentum and decay also move weights that are not connected.
                layer.weight.mul_(layer.mask)
        missing = self.total - sum(int(layer.mask.sum()) for layer in self.layers)
        if missing > 0:
            self.connect(missing, generator)

    def connect(self, missing: int, generator: torch.Generator) -> None:
        """Draw a layer for each of `missing` new connections, then a random position in the layer."""
        while missing:
            sizes = torch.tensor([float(layer.mask.numel()) for layer in self.layers])
            counts = torch.bincount(torch.multinomial(sizes, missing, replacement=True, generator=generator), minlength=len(sizes))
            for layer, count in zip(self.layers, counts.tolist(), strict=True):
                # A full layer takes no more connections; the remaining ones are drawn again.
                added = min(count, int((layer.mask == 0).sum()))
                grow_random(layer, added, generator, NEW)
                missing -= added


FAMILY = Family(
    name="bcs",
    kind="sparse",
    method="ozdenizci2021",
    taxonomy={"when": "during", "scored": "magnitude", "structured": False, "scope": "global"},
    is_masked=True,
    convolution=lambda options: with_weights(SignedConv2d, options["weights"]),
    affine=True,
    # Standard deviation of the noise at the highest learning rate, 0.1; that of the official code is 1e-6 times the rate.
    defaults={"keep_ratio": float, "noise": 1e-7},
    added={"weights": "real"},
    controller=Connectivity,
)
