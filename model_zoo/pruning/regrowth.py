"""Dynamic sparse training: drop the smallest weights and grow as many others, so that the number of weights stays constant."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from model_zoo.layers.masked import MaskedConv2d


def balanced_counts(sizes: Sequence[int], keep_ratio: float) -> list[int]:
    """Return the number of weights kept in every layer, n / (1 + f n) (FlyingBird's "igq"; Chen et al. 2022).

    Small layers keep a larger fraction. f is found by bisection so that the keep ratio is met; rounding makes the sum of the counts
    differ from the budget by less than one per layer.
    """
    budget = keep_ratio * sum(sizes)
    low, high = 0.0, 1.0
    while sum(size / (1.0 + high * size) for size in sizes) > budget:
        high *= 2.0
    for _ in range(100):
        factor = (low + high) / 2.0
        low, high = (factor, high) if sum(size / (1.0 + factor * size) for size in sizes) > budget else (low, factor)
    return [max(1, round(size / (1.0 + high * size))) for size in sizes]


def death_rate(progress: float, begin: float, end: float) -> float:
    """Return the fraction of kept weights to drop at `progress` in [0, 1] of training: half a cosine from `begin` to `end`."""
    return end + (begin - end) * 0.5 * (1.0 + math.cos(math.pi * progress))


def drop_smallest(layer: MaskedConv2d, count: int) -> None:
    """Remove the `count` kept weights of smallest magnitude from the mask."""
    # Weights that are not kept rank below all kept ones, including kept zeros.
    ranking = torch.where(layer.mask > 0, layer.weight.detach().abs(), -1.0).flatten()
    mask = torch.zeros_like(ranking)
    mask[ranking.topk(int(layer.mask.sum()) - count).indices] = 1.0
    layer.mask.copy_(mask.view(layer.mask.shape))


def grow_random(layer: MaskedConv2d, count: int, generator: torch.Generator, start: float = 0.0) -> None:
    """Add `count` positions, drawn at random among those not kept, to the mask and set their weights to `start`."""
    free = (layer.mask == 0).flatten().nonzero().flatten()
    grown = torch.zeros(layer.mask.numel(), device=layer.mask.device)
    grown[free[torch.randperm(len(free), generator=generator)[:count].to(free.device)]] = 1.0
    grown = grown.view(layer.mask.shape)
    layer.mask.add_(grown)
    with torch.no_grad():
        layer.weight.masked_fill_(grown > 0, start)
