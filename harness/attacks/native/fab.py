"""Targeted FAB in Linf (Croce and Hein, arXiv 1907.02044, with the targets of 2003.01690), image by image, one pass an iteration.

The paper asks about an iterate, and again, after a step back towards the image, for the gradient there. Here the boundary is linearised
at the iterate itself, adversarial or not, so that the one pass that says whether it is adversarial also gives the gradient. The step back
is taken on that linearisation. A run ends at its first adversarial query inside the ball.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from harness.attacks.native.pool import Ask, State, best_others, columns

# Newton's steps of a projection; it ends by itself, after a handful.
STEPS = 50


@dataclass(frozen=True)
class FAB:
    """A component of `pool` with one run for each of `targets` classes. Names are the paper's."""

    epsilon: float
    iterations: int
    targets: int
    alpha_max: float
    eta: float
    beta: float

    def start(self, clean: torch.Tensor, labels: torch.Tensor, logits: torch.Tensor, generator: torch.Generator) -> State:
        """From the image itself."""
        target = best_others(logits, labels, self.targets)[0]
        return {
            "query": clean.repeat(self.targets, 1, 1, 1),
            "target": target,
            "iteration": torch.zeros(self.targets, dtype=torch.int64),
        }

    def advance(self, ask: Ask, state: State) -> tuple[torch.Tensor, torch.Tensor]:
        """One iteration of every run."""
        query, clean, label = state["query"], state["clean"], state["label"]

        def lead(logits: torch.Tensor) -> torch.Tensor:
            return (logits.gather(1, state["target"][:, None]) - logits.gather(1, label[:, None]))[:, 0]

        logits, gradient = ask(query, lead)
        assert gradient is not None
        adversarial = logits.argmax(1) != label
        distance = (query - clean).flatten(1).abs().amax(1)
        # The plane: lead + gradient . (x - query) = 0.
        now = torch.where(columns(adversarial), clean + self.beta * (query - clean), query)
        value = lead(logits)
        flat = gradient.flatten(1)
        steps = []
        for point in (now, clean):
            there = value + (flat * (point - query).flatten(1)).sum(1)
            steps.append(project(point.flatten(1), flat, -there).view_as(query))
        sizes = [step.flatten(1).abs().amax(1) for step in steps]
        alpha = columns((sizes[0] / (sizes[0] + sizes[1]).clamp_min(1e-12)).clamp(0.0, self.alpha_max))
        moved = (now + self.eta * steps[0]) * (1.0 - alpha) + (clean + self.eta * steps[1]) * alpha
        state["query"] = moved.clamp(0.0, 1.0)
        state["iteration"] = state["iteration"] + 1
        return adversarial & (distance <= self.epsilon), state["iteration"] > self.iterations


def project(point: torch.Tensor, normal: torch.Tensor, rise: torch.Tensor) -> torch.Tensor:
    """The smallest step in Linf, [N, D], that stays in the box and raises normal . x by `rise` [N], or comes nearest to it.

    With room_i the way from point_i to the box in the direction that helps, the step is min(size, room_i) in that direction, and the size
    solves sum |normal_i| min(size, room_i) = |rise|: piecewise linear and concave, so Newton's steps from below end at the root.
    """
    # All in float32: on the CPU, masks of another type cost several times as much as the numbers they mask.
    direction = normal.sign() * rise.sign()[:, None]
    weight, upwards = normal.abs(), direction.clamp_min(0.0)
    room = (upwards - point) * (2.0 * upwards - 1.0)
    size = torch.zeros_like(rise)
    # Most rows are done after two steps: the others go on alone.
    rows = torch.arange(len(point), device=point.device)
    some: tuple[torch.Tensor, ...] = (rise.abs(), size, room, weight, weight * room)
    for _ in range(STEPS):
        wanted, before, space, each, full = some
        free = space.clone().gt_(before[:, None])
        slope = (each * free).sum(1)
        left = wanted - (full * (1.0 - free)).sum(1)
        better = torch.where(slope > 1e-12, left / slope.clamp_min(1e-12), 1.0).clamp(max=1.0)
        better = torch.maximum(better, before)
        moving = (better != before).nonzero().flatten()
        size[rows] = better
        if not len(moving):
            break
        some = (wanted, better, space, each, full)
        if 2 * len(moving) <= len(rows):
            rows, some = rows[moving], tuple(values[moving] for values in some)
    return direction * torch.minimum(size[:, None], room)
