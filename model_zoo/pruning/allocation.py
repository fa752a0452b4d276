"""Allocation of the kept weights to layers: adaptive keep ratios, or one threshold over all layers.

Adaptive keep ratios are those of the paper's section on adaptive pruning, with the rule and the rounding of the official code. There are
two constraints: the number kept in a layer of n weights is proportional to n^p (so its keep ratio is c n^(p-1)), and the
numbers kept add up to the budget. p = 1 keeps the same fraction in every layer, p = 0 the same number; the paper's best is p = 0.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from model_zoo.errors import UsageError
from model_zoo.layers.pruned_binary import keep_count

# Values of the option "allocation": keep ratios of layers by an allocation power, or one ranking of the weights of all layers.
ADAPTIVE, GLOBAL = "adaptive", "global"


def layer_keep_ratios(sizes: Sequence[int], keep_ratio: float, power: float) -> list[float]:
    """Return the keep ratio of every layer, in (0, 1], in the order of `sizes`.

    Layers are visited from small to large (ties in the given order). Each gets c n^(p-1), at most 1. The number that it keeps is
    subtracted from the budget, and c is recomputed for the remaining layers. Larger layers therefore receive what a full layer cannot use
    and all rounding differences.

    Parameters
    ----------
    sizes : sequence of int
        Number of weights of each layer, in module order.
    keep_ratio : float
        Fraction of all weights that is kept, in (0, 1].
    power : float
        The paper's p, in [0, 1].

    Raises
    ------
    ValueError
        If `keep_ratio` or `power` is out of range.
    """
    if not 0.0 < keep_ratio <= 1.0:
        raise ValueError(f"keep ratio {keep_ratio} is not in (0, 1]")
    if not 0.0 <= power <= 1.0:
        raise ValueError(f"allocation power {power} is not in [0, 1]")
    order = sorted(range(len(sizes)), key=lambda layer: sizes[layer])
    constant = keep_ratio * sum(sizes) / sum(size**power for size in sizes)
    budget = int(keep_ratio * sum(sizes))
    ratios = [1.0] * len(sizes)
    for position, layer in enumerate(order):
        ratios[layer] = min(1.0, constant * sizes[layer] ** (power - 1.0))
        budget -= int(ratios[layer] * sizes[layer])
        remaining = order[position + 1 :]
        if remaining:
            constant = budget / sum(sizes[index] ** power for index in remaining)
    return ratios


def layer_keep_counts(sizes: Sequence[int], keep_ratio: float, power: float) -> list[int]:
    """Return the number of weights kept in every layer: `layer_keep_ratios` with the mask's rounding n - floor((1 - k) n)."""
    return [keep_count(size, ratio) for size, ratio in zip(sizes, layer_keep_ratios(sizes, keep_ratio, power), strict=True)]


def check_allocation(allocation: str) -> None:
    """Raise a UsageError unless `allocation` is "adaptive" or "global"."""
    if allocation not in (ADAPTIVE, GLOBAL):
        raise UsageError(f"allocation must be {ADAPTIVE} or {GLOBAL}, not {allocation!r}")


def allocated_counts(rankings: Sequence[torch.Tensor], options: Mapping[str, Any]) -> list[int]:
    """Return the number of weights kept in every layer.

    Parameters
    ----------
    rankings : sequence of torch.Tensor
        One tensor per layer, whose entries of largest magnitude are kept.
    options : mapping
        Options of a family: `keep_ratio`, the fraction of all weights that is kept, `allocation` and `allocation_power`. With allocation
        "adaptive", power 1 rounds the same fraction in every layer, and other powers are `layer_keep_counts`. With "global", a layer keeps
        as many as are among the largest of all layers together, possibly none.
    """
    keep_ratio, power = options["keep_ratio"], options["allocation_power"]
    sizes = [ranking.numel() for ranking in rankings]
    if options["allocation"] == ADAPTIVE:
        return [keep_count(size, keep_ratio) for size in sizes] if power == 1.0 else layer_keep_counts(sizes, keep_ratio, power)
    magnitudes = torch.cat([ranking.detach().abs().flatten() for ranking in rankings])
    is_kept = torch.zeros_like(magnitudes, dtype=torch.bool)
    is_kept[magnitudes.topk(round(keep_ratio * len(magnitudes)), sorted=False).indices] = True
    return [int(part.sum()) for part in is_kept.split(sizes)]
