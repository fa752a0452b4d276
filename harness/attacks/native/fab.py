"""Targeted FAB in Linf (Croce and Hein, arXiv 1907.02044, with the targets of 2003.01690), per image, with one pass per iteration.

The paper evaluates an iterate and then, after a step back towards the image, evaluates the gradient at the new point. This version
linearises the boundary at the iterate, adversarial or not, so that one pass shows whether it is adversarial and gives the gradient;
the step back uses the same linearisation. A run ends at its first adversarial query inside the ball.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from harness.attacks.native.pool import ModelQuery, State, best_others, columns
from harness.threats import LINF

# Maximum number of Newton steps of a projection; a handful are enough.
STEPS = 50


@dataclass(frozen=True)
class FAB:
    """A component of `pool` with one run per target class.

    `targets` is the number of target classes; `alpha_max`, `eta` and `beta` are named as in the paper, `epsilon` is in [0, 1].
    """

    epsilon: float
    iterations: int
    targets: int
    alpha_max: float
    eta: float
    beta: float

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
        distance = LINF.size(query - clean)
        # The plane: lead + gradient . (x - query) = 0.
        iterate = torch.where(columns(is_adversarial), clean + self.beta * (query - clean), query)
        query_lead = lead(logits)
        flat_gradient = gradient.flatten(1)
        steps = []
        for point in (iterate, clean):
            point_lead = query_lead + (flat_gradient * (point - query).flatten(1)).sum(1)
            steps.append(project(point.flatten(1), flat_gradient, -point_lead).view_as(query))
        sizes = [LINF.size(step) for step in steps]
        alpha = columns((sizes[0] / (sizes[0] + sizes[1]).clamp_min(1e-12)).clamp(0.0, self.alpha_max))
        moved = (iterate + self.eta * steps[0]) * (1.0 - alpha) + (clean + self.eta * steps[1]) * alpha
        state["query"] = moved.clamp(0.0, 1.0)
        state["iteration"] = state["iteration"] + 1
        return is_adversarial & (distance <= self.epsilon), state["iteration"] > self.iterations


def project(point: torch.Tensor, normal: torch.Tensor, rise: torch.Tensor) -> torch.Tensor:
    """Return the smallest step in Linf, [N, D], that stays in [0, 1] and raises normal . x by `rise` [N], or as nearly as possible.

    Let room_i be the distance from point_i to the bound of the box in the direction that helps. The step is min(size, room_i) in that
    direction, and size solves sum |normal_i| min(size, room_i) = |rise|. The left side is piecewise linear and concave in size, so
    Newton's iterates from below reach the root. `point` and `normal` are [N, D].
    """
    # All in float32: on the CPU, masks of another type cost several times as much as the numbers they mask.
    direction = normal.sign() * rise.sign()[:, None]
    weight, upwards = normal.abs(), direction.clamp_min(0.0)
    room = (upwards - point) * (2.0 * upwards - 1.0)
    size = torch.zeros_like(rise)
    # Most rows are done after two steps; the others continue alone.
    rows = torch.arange(len(point), device=point.device)
    active: tuple[torch.Tensor, ...] = (rise.abs(), size, room, weight, weight * room)
    for _ in range(STEPS):
        goal, previous, active_room, active_weight, full_rise = active
        is_free = active_room.clone().gt_(previous[:, None])
        slope = (active_weight * is_free).sum(1)
        remainder = goal - (full_rise * (1.0 - is_free)).sum(1)
        improved = torch.where(slope > 1e-12, remainder / slope.clamp_min(1e-12), 1.0).clamp(max=1.0)
        improved = torch.maximum(improved, previous)
        moving = (improved != previous).nonzero().flatten()
        size[rows] = improved
        if not len(moving):
            break
        active = (goal, improved, active_room, active_weight, full_rise)
        if 2 * len(moving) <= len(rows):
            rows, active = rows[moving], tuple(values[moving] for values in active)
    return direction * torch.minimum(size[:, None], room)
