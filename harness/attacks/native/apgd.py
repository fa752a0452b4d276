"""APGD in Linf and L2 (Croce and Hein, arXiv 2003.01690, algorithm 1), per image, on the cross-entropy or the targeted DLR loss.

A run ends at its first adversarial query.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from harness.attacks.native.geometry import LINF_GEOMETRY, Geometry
from harness.attacks.native.losses import cross_entropy
from harness.attacks.native.pool import ModelQuery, State, best_others, columns

# Constants of the paper: momentum; and as shares of the iterations, the first and the least period of checkpoints, and its decrease.
MOMENTUM = 0.75
FIRST, LEAST, SHORTER = 0.22, 0.06, 0.03


@dataclass
class APGD:
    """A component of `pool`.

    `epsilon` is in units of the [0, 1] range; `targets` is 0 for the cross-entropy, else the number of target classes, with one run
    each. `stuck` counts the runs whose start point was not adversarial and had a gradient of zero everywhere. `geometry` is of the norm.
    """

    epsilon: float
    iterations: int
    rho: float
    targets: int = 0
    stuck: int = 0
    geometry: Geometry = LINF_GEOMETRY

    def start(self, clean: torch.Tensor, labels: torch.Tensor, logits: torch.Tensor, generator: torch.Generator) -> State:
        """Return the initial state: a random point per run, whose noise is scaled to the surface of the ball."""
        runs = max(self.targets, 1)
        noise = self.geometry.noise(torch.Size([runs, *clean.shape[1:]]), generator)
        initial = (clean + self.epsilon * noise / columns(self.geometry.norm.size(noise))).clamp(0.0, 1.0)
        target = best_others(logits, labels, self.targets)[0] if self.targets else labels
        zeros, zero_counts = torch.zeros(runs), torch.zeros(runs, dtype=torch.int64)
        return {
            "query": initial,
            "before": initial,
            "best": initial,
            "best_gradient": torch.zeros_like(initial),
            "best_loss": zeros - torch.inf,
            "checked_loss": zeros - torch.inf,
            "last_loss": zeros - torch.inf,
            "step": zeros + 2.0 * self.epsilon,
            "target": target.clone(),
            "rises": zero_counts,
            "since": zero_counts,
            "period": zero_counts + max(int(FIRST * self.iterations), 1),
            "halved": zero_counts.bool(),
            "iteration": zero_counts,
        }

    def advance(self, query_model: ModelQuery, state: State) -> tuple[torch.Tensor, torch.Tensor]:
        """Perform one iteration of every run."""
        query, label, iteration = state["query"], state["label"], state["iteration"]
        logits, gradient = query_model(query, lambda outputs: self._loss(outputs, label, state["target"]))
        assert gradient is not None
        is_adversarial = logits.argmax(1) != label
        is_first, is_last = iteration == 0, iteration == self.iterations
        self.stuck += int((is_first & ~is_adversarial & (gradient.flatten(1) == 0).all(1)).sum())
        loss = self._loss(logits, label, state["target"])
        is_better = loss > state["best_loss"]
        state["best"] = torch.where(columns(is_better), query, state["best"])
        state["best_gradient"] = torch.where(columns(is_better), gradient, state["best_gradient"])
        state["best_loss"] = torch.where(is_better, loss, state["best_loss"])
        state["rises"] = torch.where(is_first, 0, state["rises"] + (loss > state["last_loss"]).long())
        state["checked_loss"] = torch.where(is_first, loss, state["checked_loss"])
        since = torch.where(is_first, 0, state["since"] + 1)
        point = query
        # At a checkpoint, halve the step if too few steps raised the loss, or if the best loss has not risen since a step that was kept.
        is_checkpoint = ~is_first & (since == state["period"])
        if is_checkpoint.any():
            is_slow = state["rises"] <= self.rho * state["period"]
            is_level = ~state["halved"] & (state["best_loss"] <= state["checked_loss"])
            is_halving = is_checkpoint & (is_slow | is_level)
            state["halved"] = torch.where(is_checkpoint, is_slow | is_level, state["halved"])
            state["step"] = torch.where(is_halving, state["step"] / 2.0, state["step"])
            point = torch.where(columns(is_halving), state["best"], query)
            gradient = torch.where(columns(is_halving), state["best_gradient"], gradient)
            state["checked_loss"] = torch.where(is_checkpoint, state["best_loss"], state["checked_loss"])
            shortening = max(int(SHORTER * self.iterations), 1)
            period = (state["period"] - shortening).clamp_min(max(int(LEAST * self.iterations), 1))
            state["period"] = torch.where(is_checkpoint, period, state["period"])
            state["rises"] = torch.where(is_checkpoint, 0, state["rises"])
            since = torch.where(is_checkpoint, 0, since)
        state["since"], state["last_loss"] = since, loss
        project = self.geometry.norm.project
        stepped = project(point + columns(state["step"]) * self.geometry.steepest(gradient), state["clean"], self.epsilon)
        momentum = columns(torch.where(is_first, 1.0, MOMENTUM))
        with_momentum = point + (stepped - point) * momentum + (point - state["before"]) * (1.0 - momentum)
        state["query"] = project(with_momentum, state["clean"], self.epsilon)
        state["before"], state["iteration"] = point, iteration + 1
        return is_adversarial, is_last

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if not self.targets:
            return cross_entropy(logits, labels)
        ordered = logits.sort(1, descending=True).values
        scale = ordered[:, 0] - 0.5 * (ordered[:, 2] + ordered[:, 3]) + 1e-12
        gap = logits.gather(1, labels[:, None]) - logits.gather(1, targets[:, None])
        return -gap[:, 0] / scale
