"""The Square attack in Linf (Andriushchenko et al., arXiv 1912.00049, algorithm 2) on the margin, per image.

All random numbers of an image are drawn at its start, so that a query draws none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from harness.attacks.native.losses import margin
from harness.attacks.native.pool import ModelQuery, State

# After these many queries the square's area is halved.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@dataclass(frozen=True)
class Square:
    """A component of `pool`.

    `epsilon` is in units of the [0, 1] range, `queries` is the number of queries per image, and `share` is the paper's initial p, the
    fraction of pixels that a square covers.
    """

    epsilon: float
    queries: int
    share: float

    def start(self, clean: torch.Tensor, labels: torch.Tensor, logits: torch.Tensor, generator: torch.Generator) -> State:
        """Return the initial state: vertical stripes of plus or minus epsilon, with one sign per column and channel."""
        _, channels, height, width = clean.shape
        stripes = random_signs(torch.rand(1, channels, 1, width, generator=generator))
        low, high = (clean - self.epsilon).clamp_min(0.0), (clean + self.epsilon).clamp_max(1.0)
        initial = (clean + self.epsilon * stripes).clamp(0.0, 1.0)
        draws = torch.rand(1, self.queries, 2 + channels, generator=generator)
        sides = self._sides(height, width)[:, None]
        corners = (draws[..., :2] * (torch.tensor([height, width]) - sides + 1)).long()
        return {
            "query": initial,
            "best": initial.clone(),
            "best_margin": torch.full((1,), -torch.inf),
            "low": low,
            "high": high,
            # Per query: the square's first row and column, the row and column after its last, and the value added to each channel.
            "square": torch.cat([corners, corners + sides], dim=2).to(torch.int32),
            "change": 2.0 * self.epsilon * random_signs(draws[..., 2:]),
            "iteration": torch.zeros(1, dtype=torch.int64),
        }

    def advance(self, query_model: ModelQuery, state: State) -> tuple[torch.Tensor, torch.Tensor]:
        """Perform one query of every run."""
        query, iteration, label = state["query"], state["iteration"], state["label"]
        logits, _ = query_model(query, None)
        margins = margin(logits, label)
        best = keep_better(state, margins)
        state["iteration"] = iteration + 1
        # Select each run's square for its current iteration.
        current = torch.arange(len(query), device=query.device), iteration.clamp_max(self.queries - 1)
        top, left, bottom, right = state["square"][current].unsqueeze(2).unbind(1)
        row_numbers, column_numbers = (torch.arange(size, device=query.device) for size in query.shape[2:])
        is_in_rows, is_in_columns = (row_numbers >= top) & (row_numbers < bottom), (column_numbers >= left) & (column_numbers < right)
        square = (is_in_rows[:, :, None] & is_in_columns[:, None, :])[:, None]
        state["query"] = (state["change"][current][:, :, None, None] * square).add_(best).clamp_(state["low"], state["high"])
        return logits.argmax(1) != label, iteration >= self.queries

    def _sides(self, height: int, width: int) -> torch.Tensor:
        """Return the side of each query's square in pixels, int64 [queries]."""
        return rounded_sides(self.share, self.queries, height, width).clamp(1, min(height, width) - 1)


def keep_better(state: State, margins: torch.Tensor) -> torch.Tensor:
    """Put the queries whose margin is larger than that of the best query so far in its place, and return the best queries."""
    improved = (margins > state["best_margin"]).nonzero().flatten()
    # In place: few queries are better, and `where` costs more than everything else.
    state["best"][improved], state["best_margin"][improved] = state["query"][improved], margins[improved]
    return state["best"]


def rounded_sides(share: float, queries: int, height: int, width: int) -> torch.Tensor:
    """Return the side of a square with the area of each query, in whole pixels, int64 [queries]; `share` is that of the first area."""
    shares = share * 0.5 ** torch.bucketize(torch.arange(queries), torch.tensor(HALVINGS)).float()
    return (shares * height * width).sqrt().round().long()


def random_signs(uniform: torch.Tensor) -> torch.Tensor:
    """Return a random sign, -1 or 1, for each number that is uniform in [0, 1)."""
    return torch.where(uniform < 0.5, -1.0, 1.0)
