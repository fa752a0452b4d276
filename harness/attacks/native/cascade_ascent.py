"""Gradient component of `cascade`: signed ascent towards the classes whose boundary is nearest.

Step `i` has the length `epsilon * (1 + cos(pi * i / steps))` in every pixel: the first one reaches the corner of the ball to which the
gradient at the clean image points, and later ones become ever shorter. On adversarially trained networks, which are nearly linear inside
the ball, few steps are needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch

from harness.attacks.native.losses import margin
from harness.attacks.native.pool import ModelQuery, State, best_others, columns
from harness.threats import LINF


@dataclass(frozen=True, eq=False)
class CascadeAscent:
    """A component of `pool`.

    Without `candidates`, one run per start ascends the margin. With candidates, one run begins per start and class, and ascends the logit
    of that class minus the label's. After their first query, only those `targets` runs of an image go on whose class is nearest by a
    linear estimate: the distance in logits divided by the L1 norm of its gradient (MALT, arXiv 2407.02240).

    Attributes
    ----------
    epsilon : float
        Radius of the ball, in units of the [0, 1] range.
    steps : int
        Most steps of a run.
    patience, reach : int, float
        After `patience` steps or more, a run ends if the distance of its best margin from zero is larger than `reach` times the progress
        from the clean image's margin.
    reached : torch.Tensor
        float32 [N]: largest margin of any query about each image, which this component raises.
    candidates, targets : int
        Number of classes, those with the largest logits, and number of runs that go on.
    starts : int
        Number of random points of the ball to start from; 0 starts from the clean image.
    sign : int
        1, or -1 to descend the margin.
    """

    epsilon: float
    steps: int
    patience: int
    reach: float
    reached: torch.Tensor
    candidates: int = 0
    targets: int = 1
    starts: int = 0
    sign: int = 1

    def start(self, clean: torch.Tensor, labels: torch.Tensor, logits: torch.Tensor, generator: torch.Generator) -> State:
        """Return the initial state, with one run per start and class."""
        target = best_others(logits, labels, self.candidates)[0] if self.candidates else labels
        initial = clean
        if self.starts:
            noise = LINF.noise((self.starts, *clean.shape[1:]), self.epsilon, generator)
            initial = (clean + noise).clamp(0.0, 1.0)
        runs = len(initial) * len(target)
        return {
            "query": initial.repeat_interleave(len(target), 0),
            "target": target.repeat(len(initial)),
            "clean_margin": margin(logits, labels).repeat(runs),
            "best_margin": torch.full((runs,), -torch.inf),
            "iteration": torch.zeros(runs, dtype=torch.int64),
        }

    def advance(self, query_model: ModelQuery, state: State) -> tuple[torch.Tensor, torch.Tensor]:
        """Perform one iteration of every run."""
        query, label, iteration, row = state["query"], state["label"], state["iteration"], state["row"]

        def value(logits: torch.Tensor) -> torch.Tensor:
            if not self.candidates:
                return self.sign * margin(logits, label)
            return (logits.gather(1, state["target"][:, None]) - logits.gather(1, label[:, None]))[:, 0]

        logits, gradient = query_model(query, value)
        assert gradient is not None
        margins = margin(logits, label)
        self.reached.scatter_reduce_(0, row, margins, "amax")
        best_margin = state["best_margin"] = torch.maximum(state["best_margin"], margins)
        length = self.epsilon * (1.0 + torch.cos(pi * iteration / self.steps))
        state["query"] = LINF.project(query + columns(length) * gradient.sign(), state["clean"], self.epsilon)
        state["iteration"] = iteration + 1
        is_over = iteration >= self.steps
        is_over |= (iteration >= self.patience) & (-best_margin > self.reach * (best_margin - state["clean_margin"]))
        if self.candidates:
            distance = -value(logits) / gradient.flatten(1).abs().sum(1).clamp_min(torch.finfo(gradient.dtype).tiny)
            is_over |= (iteration == 0) & (_rank(distance, row) >= self.targets)
        return logits.argmax(1) != label, is_over


def _rank(values: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
    """Return how many runs of the same image have a smaller value, or the same value and a smaller index, int64 [runs]."""
    position = torch.arange(len(values), device=values.device)
    is_before = (values[:, None] < values[None, :]) | ((values[:, None] == values[None, :]) & (position[:, None] < position[None, :]))
    return ((row[:, None] == row[None, :]) & is_before).sum(0)
