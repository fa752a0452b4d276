"""Targeted FAB in Linf and L2 (Croce and Hein, arXiv 1907.02044, with the targets of 2003.01690), per image, with one pass per iteration.

The paper evaluates an iterate and then, after a step back towards the image, evaluates the gradient at the new point. This version
linearises the boundary at the iterate, adversarial or not, so that one pass shows whether it is adversarial and gives the gradient;
the step back uses the same linearisation. A run ends at its first adversarial query inside the ball.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from harness.attacks.native.geometry import LINF_GEOMETRY, Geometry
from harness.attacks.native.pool import ModelQuery, State, best_others, columns


@dataclass(frozen=True)
class FAB:
    """A component of `pool` with one run per target class.

    `targets` is the number of target classes; `alpha_max`, `eta` and `beta` are named as in the paper, `epsilon` is in units of the [0, 1]
    range and of the norm of `geometry`.
    """

    epsilon: float
    iterations: int
    targets: int
    alpha_max: float
    eta: float
    beta: float
    geometry: Geometry = LINF_GEOMETRY

    def start(self, clean: torch.Tensor, labels: torch.Tensor, logits: torch.Tensor, generator: torch.Generator) -> State:
        """Return the initial state: every run starts from the clean image."""
        target = best_others(logits, labels, self.targets)[0]
        return {
            "query": clean.repeat(self.targets, 1, 1, 1),
            "target": target,
            "iteration": torch.zeros(self.targets, dtype=torch.int64),
        }

    def advance(self, query_model: ModelQuery, state: State) -> tuple[torch.Tensor, torch.Tensor]:
        """Perform one iteration of every run."""
        query, clean, label = state["query"], state["clean"], state["label"]

        def lead(logits: torch.Tensor) -> torch.Tensor:
            return (logits.gather(1, state["target"][:, None]) - logits.gather(1, label[:, None]))[:, 0]

        logits, gradient = query_model(query, lead)
        assert gradient is not None
        is_adversarial = logits.argmax(1) != label
        distance = self.geometry.norm.size(query - clean)
        # The plane: lead + gradient . (x - query) = 0.
        iterate = torch.where(columns(is_adversarial), clean + self.beta * (query - clean), query)
        query_lead = lead(logits)
        flat_gradient = gradient.flatten(1)
        steps = []
        for point in (iterate, clean):
            point_lead = query_lead + (flat_gradient * (point - query).flatten(1)).sum(1)
            steps.append(self.geometry.step_to_plane(point.flatten(1), flat_gradient, -point_lead).view_as(query))
        sizes = [self.geometry.norm.size(step) for step in steps]
        alpha = columns((sizes[0] / (sizes[0] + sizes[1]).clamp_min(1e-12)).clamp(0.0, self.alpha_max))
        moved = (iterate + self.eta * steps[0]) * (1.0 - alpha) + (clean + self.eta * steps[1]) * alpha
        state["query"] = moved.clamp(0.0, 1.0)
        state["iteration"] = state["iteration"] + 1
        return is_adversarial & (distance <= self.epsilon), state["iteration"] > self.iterations
