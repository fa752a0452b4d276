"""The Square attack in L2 (Andriushchenko et al., arXiv 1912.00049, algorithm 3) on the margin, per image, as pyautoattack implements it.

A query moves the length of the change in one square to another one, where it takes the shape of a pattern with two bumps of opposite sign.
All random numbers of an image are drawn at its start, so that a query draws none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from harness.attacks.native.losses import margin
from harness.attacks.native.pool import ModelQuery, State
from harness.attacks.native.square import keep_better, random_signs, rounded_sides

# The start has this number of tiles per side, and more if they do not fill the image.
TILES = 5
# Lower bound of divisors.
TINY = 1e-12


@dataclass(frozen=True)
class SquareL2:
    """A component of `pool`.

    `epsilon` is in units of the [0, 1] range, `queries` is the number of queries per image, and `share` is the paper's initial p, the
    fraction of pixels that a square covers.
    """

    epsilon: float
    queries: int
    share: float

    def start(self, clean: torch.Tensor, labels: torch.Tensor, logits: torch.Tensor, generator: torch.Generator) -> State:
        """Return the initial state: a change of length epsilon that consists of tiles, with one sign per tile and channel."""
        _, channels, height, width = clean.shape
        tile = max(height // TILES, 1)
        first = (height - TILES * tile) // 2 if height >= TILES else 0
        change = torch.zeros_like(clean)
        for top in range(first, height - tile + 1, tile):
            for left in range(first, width - tile + 1, tile):
                draws = torch.rand(1, channels + 1, 1, 1, generator=generator)
                bumps = pattern(tile) if draws[0, 0] < 0.5 else pattern(tile).T
                change[:, :, top : top + tile, left : left + tile] = bumps * random_signs(draws[:, 1:])
        initial = (clean + self.epsilon * change / _length(change).clamp_min(TINY)).clamp(0.0, 1.0)
        draws = torch.rand(1, self.queries, 5 + channels, generator=generator)
        sides = self._sides(height, width)[:, None]
        sizes = torch.tensor([height, width, height, width])
        return {
            "query": initial,
            "best": initial.clone(),
            "best_margin": torch.full((1,), -torch.inf),
            # Per query: the first row and column of the square that gains and of the one that loses, and the side of both.
            "squares": torch.cat([(draws[..., :4] * (sizes - sides + 1)).long(), sides.expand(1, -1, -1)], dim=2).to(torch.int32),
            "is_turned": draws[..., 4] < 0.5,
            "signs": random_signs(draws[..., 5:]),
            "iteration": torch.zeros(1, dtype=torch.int64),
        }

    def advance(self, query_model: ModelQuery, state: State) -> tuple[torch.Tensor, torch.Tensor]:
        """Perform one query of every run."""
        query, iteration, label = state["query"], state["iteration"], state["label"]
        logits, _ = query_model(query, None)
        margins = margin(logits, label)
        best = keep_better(state, margins)
        state["iteration"] = iteration + 1
        current = torch.arange(len(query), device=query.device), iteration.clamp_max(self.queries - 1)
        top, left, losing_top, losing_left, side = state["squares"][current].unbind(1)
        bumps, is_gaining = _placed(top, left, side, state["is_turned"][current], best.shape[2:])
        is_losing = _placed(losing_top, losing_left, side, state["is_turned"][current], best.shape[2:])[1]
        change = best - state["clean"]
        inside = change * is_gaining
        gaining = bumps * state["signs"][current][:, :, None, None] + inside / (TINY + _length_per_channel(inside))
        # The length of both squares, and what is missing to epsilon, which every channel gets its share of.
        missing = (self.epsilon**2 - _length(change) ** 2).clamp_min(0.0) / change.shape[1]
        length = (missing + _length_per_channel(change * torch.maximum(is_gaining, is_losing)) ** 2).sqrt()
        gaining = gaining / (TINY + _length_per_channel(gaining)) * length
        moved = torch.where(is_gaining > 0, gaining, change * (1.0 - is_losing))
        state["query"] = (state["clean"] + self.epsilon * moved / _length(moved).clamp_min(TINY)).clamp(0.0, 1.0)
        return logits.argmax(1) != label, iteration >= self.queries

    def _sides(self, height: int, width: int) -> torch.Tensor:
        """Return the side of each query's squares in pixels, odd and at least 3 unless the image is smaller, int64 [queries]."""
        sides = rounded_sides(self.share, self.queries, height, width).clamp_min(3)
        return (sides + 1 - sides % 2).clamp_max(min(height, width))


@cache
def pattern(side: int) -> torch.Tensor:
    """Return two bumps of opposite sign, one above the other, with length 1 together, float32 [side, side]."""
    upper = side // 2
    bumps = torch.cat([_bump(upper, side), -_bump(side - upper, side)])
    return bumps / bumps.norm().clamp_min(TINY)


def _bump(height: int, width: int) -> torch.Tensor:
    """Return a bump [height, width] of length 1: sums of 1 / k^2 over the squares with half side k around its centre that cover a pixel."""
    rows, columns = (torch.arange(size) - size // 2 for size in (height, width))
    rings = max(height, width) // 2 + 1
    levels = (1.0 / torch.arange(1, rings + 1) ** 2).flip(0).cumsum(0).flip(0)
    bump = levels[torch.maximum(rows.abs()[:, None], columns.abs()[None, :])]
    return bump / bump.norm().clamp_min(TINY)


def _placed(
    top: torch.Tensor, left: torch.Tensor, side: torch.Tensor, is_turned: torch.Tensor, size: torch.Size
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the patterns of all runs in their squares, and the squares as masks, each float32 [runs, 1, height, width]."""
    device = top.device
    patterns = torch.zeros(len(top), 1, *size, device=device)
    is_inside = torch.zeros_like(patterns)
    by_side = {value: pattern(value).to(device) for value in set(side.tolist())}
    for run, (row, column, length, turned) in enumerate(zip(top.tolist(), left.tolist(), side.tolist(), is_turned.tolist(), strict=True)):
        square = run, 0, slice(row, row + length), slice(column, column + length)
        patterns[square], is_inside[square] = by_side[length].T if turned else by_side[length], 1.0
    return patterns, is_inside


def _length(change: torch.Tensor) -> torch.Tensor:
    return change.flatten(1).norm(dim=1)[:, None, None, None]


def _length_per_channel(change: torch.Tensor) -> torch.Tensor:
    return change.flatten(2).norm(dim=2)[:, :, None, None]
