"""Dynamic sparse training: drop the smallest weights, grow as many elsewhere, so that the count stays what it was."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from model_zoo.layers.masked import MaskedConv2d


def balanced_counts(sizes: Sequence[int], keep_ratio: float) -> list[int]:
    """Weights kept in every layer, n / (1 + f n) with the f that meets the keep ratio (FlyingBird's "igq"; Chen et al. 2022).

    Small layers keep a larger fraction. f is found by bisection; the counts add up to the whole number nearest to the budget from above
    or below by less than one a layer.
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
    """Fraction of the kept weights that an update drops at `progress` in [0, 1] of training: half a cosine from `begin` to `end`."""
    return end + (begin - end) * 0.5 * (1.0 + math.cos(math.pi * progress))


def drop_smallest(layer: MaskedConv2d, count: int) -> None:
    """Take the `count` kept weights of least magnitude out of the mask."""
    # Not kept: below every magnitude, a kept zero's too.
    ranking = torch.where(layer.mask > 0, layer.weight.detach().abs(), -1.0).flatten()
    mask = torch.zeros_like(ranking)
    mask[ranking.topk(int(layer.mask.sum()) - count).indices] = 1.0
    layer.mask.copy_(mask.view(layer.mask.shape))


def grow_random(layer: MaskedConv2d, count: int, generator: torch.Generator, start: float = 0.0) -> None:
    """Put `count` places drawn at random among those not kept into the mask, their weights at `start`."""
    free = (layer.mask == 0).flatten().nonzero().flatten()
    grown = torch.zeros(layer.mask.numel(), device=layer.mask.device)
    grown[free[torch.randperm(len(free), generator=generator)[:count].to(free.device)]] = 1.0
    grown = grown.view(layer.mask.shape)
    layer.mask.add_(grown)
    with torch.no_grad():
        layer.weight.masked_fill_(grown > 0, start)
