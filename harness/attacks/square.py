"""The Square attack in Linf (Andriushchenko et al., arXiv 1912.00049, algorithm 2), image by image, on the margin.

Everything random about an image is drawn when it begins, so that a query costs no draw.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from harness.attacks.losses import margin
from harness.attacks.pool import Ask, State, columns

# After these many queries the square's area is halved.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@dataclass(frozen=True)
class Square:
    """A component of `pool`; `share` is the paper's initial p, the share of pixels that a square covers."""

    epsilon: float
    queries: int
    share: float

    def start(self, clean: torch.Tensor, labels: torch.Tensor, logits: torch.Tensor, generator: torch.Generator) -> State:
        """From vertical stripes, one sign to each column and channel."""
        _, channels, _, width = clean.shape
        stripes = _signs(torch.rand(1, channels, 1, width, generator=generator))
        begin = (clean + self.epsilon * stripes).clamp(0.0, 1.0)
        return {
            "query": begin,
            "best": begin,
            "best_margin": torch.full((1,), -torch.inf),
            "draws": torch.rand(1, self.queries, 2 + channels, generator=generator),
            "iteration": torch.zeros(1, dtype=torch.int64),
        }

    def advance(self, ask: Ask, state: State) -> tuple[torch.Tensor, torch.Tensor]:
        """One query of every run."""
        query, iteration = state["query"], state["iteration"]
        logits, _ = ask(query, None)
        found = margin(logits, state["label"])
        better = found > state["best_margin"]
        state["best"] = torch.where(columns(better), query, state["best"])
        state["best_margin"] = torch.where(better, found, state["best_margin"])
        over = iteration >= self.queries
        draws = state["draws"][torch.arange(len(query), device=query.device), iteration.clamp_max(self.queries - 1)]
        height, width = query.shape[2:]
        share = self.share * 0.5 ** torch.bucketize(iteration, torch.tensor(HALVINGS, device=query.device)).to(query)
        side = (share * height * width).sqrt().round().long().clamp(1, min(height, width) - 1)
        inside = []
        for draw, size in ((draws[:, 0], height), (draws[:, 1], width)):
            first = (draw * (size - side + 1)).long()
            place = torch.arange(size, device=query.device)
            inside.append((place >= first[:, None]) & (place < (first + side)[:, None]))
        square = (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
        change = 2.0 * self.epsilon * _signs(draws[:, 2:])[:, :, None, None] * square
        clean = state["clean"]
        moved = torch.min(torch.max(state["best"] + change, clean - self.epsilon), clean + self.epsilon).clamp(0.0, 1.0)
        state["query"], state["iteration"] = moved, iteration + 1
        return logits.argmax(1) != state["label"], over


def _signs(uniform: torch.Tensor) -> torch.Tensor:
    return torch.where(uniform < 0.5, -1.0, 1.0)
