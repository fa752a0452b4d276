"""RayS in Linf (Chen and Gu 2020, arXiv 2006.12792): an attack that uses only the predicted class.

It searches for the sign vector along which the decision changes at the smallest radius. It flips the signs of a block of pixels; if the
class is still wrong at the smallest radius so far, a bisection finds the new radius. Blocks are halved after all of them were tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import torch

from harness.attacks.common import Adapter, AttackCall, AttackResult
from harness.attacks.native import pool
from harness.attacks.native.pool import ModelQuery, State, columns
from harness.attacks.parameters import Count
from harness.attacks.parameters import Parameters as BaseParameters
from harness.attacks.passes import Passes
from harness.attacks.progress import counted

# Radii between which a bisection stops, as a share of the larger one.
PRECISION = 0.02


@dataclass(frozen=True)
class RayS:
    """A component of `pool`: an image is broken when the radius of its best direction is at most `epsilon`.

    `epsilon` is in units of the [0, 1] range; `queries` is the number of queries per image.
    """

    epsilon: float
    queries: int

    def start(self, clean: torch.Tensor, labels: torch.Tensor, logits: torch.Tensor, generator: torch.Generator) -> State:
        """Return the initial state: the direction +1 for every pixel, at the largest radius, 1."""
        _, channels, height, width = clean.shape
        direction = torch.ones(1, channels, height, width)
        return {
            "query": (clean + direction).clamp(0.0, 1.0),
            # The query: a direction at a radius, which is between `low` and `high` during a bisection.
            "direction": direction,
            "tried": direction.clone(),
            "radius": torch.ones(1),
            "low": torch.zeros(1),
            "high": torch.ones(1),
            "asked_radius": torch.ones(1),
            "is_bisecting": torch.zeros(1, dtype=torch.bool),
            "level": torch.zeros(1, dtype=torch.int64),
            "block": torch.full((1,), -1),
            "iteration": torch.zeros(1, dtype=torch.int64),
        }

    def advance(self, query_model: ModelQuery, state: State) -> tuple[torch.Tensor, torch.Tensor]:
        """Perform one query of every run."""
        logits, _ = query_model(state["query"], None)
        is_wrong = logits.argmax(1) != state["label"]
        radius, is_bisecting = state["asked_radius"], state["is_bisecting"]
        is_broken = is_wrong & (radius <= self.epsilon)
        low = torch.where(is_bisecting & ~is_wrong, radius, torch.where(is_bisecting, state["low"], 0.0))
        high = torch.where(is_wrong, radius, state["high"])
        is_continuing = torch.where(is_bisecting, True, is_wrong) & (high - low > PRECISION * high)
        # The tried direction becomes the best one if it is wrong at a radius no larger than the best one's.
        state["direction"] = torch.where(columns(is_wrong), state["tried"], state["direction"])
        state["radius"] = torch.where(is_wrong, radius, state["radius"])
        state["iteration"] = state["iteration"] + 1
        state["tried"] = self._next_direction(state, ~is_continuing)
        state["is_bisecting"] = is_continuing
        state["low"], state["high"] = low, torch.where(is_continuing, high, state["radius"])
        # A bisection first tries the radius of the threat model: being wrong there is sufficient.
        middle = torch.where((low < self.epsilon) & (high > self.epsilon), self.epsilon, (low + high) / 2)
        state["asked_radius"] = torch.where(is_continuing, middle, state["radius"])
        perturbation = columns(state["asked_radius"]) * state["tried"]
        state["query"] = (state["clean"] + perturbation).clamp(0.0, 1.0)
        return is_broken, state["iteration"] >= self.queries

    def _next_direction(self, state: State, is_next: torch.Tensor) -> torch.Tensor:
        """Return the best direction with the next block's signs flipped for rows with `is_next`; a block is contiguous in [C, H, W]."""
        size = state["clean"][0].numel()
        block, level = state["block"] + is_next.long(), state["level"]
        is_past = block >= 2**level
        level = torch.where(is_past, (level + 1).clamp_max(size.bit_length() - 1), level)
        state["block"], state["level"] = torch.where(is_past, 0, block), level
        block_length = -(-size // 2**level)
        positions = torch.arange(size, device=block.device)
        is_inside = (positions >= (state["block"] * block_length)[:, None]) & (positions < ((state["block"] + 1) * block_length)[:, None])
        flipped = torch.where(is_inside.view_as(state["tried"]), -state["direction"], state["direction"])
        return torch.where(columns(is_next), flipped, state["tried"])


class Parameters(BaseParameters):
    """`queries` is the number of queries per image, `batch_size` the number of simultaneous runs."""

    queries: Count
    batch_size: Count


def passes(parameters: Parameters, classes: int) -> tuple[Passes, Passes]:
    """Return the passes for an image that the first query breaks, and for one that survives."""
    return Passes(2, 0), Passes(parameters.queries + 1, 0)


def attack(call: AttackCall, parameters: Parameters) -> AttackResult:
    """Run RayS on every image until it is broken or all queries are used; raise a UsageError if the parameters are invalid."""
    model, images, labels, threat = call.model, call.images, call.labels, call.threat
    component, rows = RayS(threat.epsilon, parameters.queries), torch.arange(len(images), device=images.device)
    with torch.no_grad(), counted(model, call.progress, "rays", ceil(len(images) / parameters.batch_size) * parameters.queries):
        result = pool.run(component, "rays", model, images, labels, model(images), rows, call.seed, parameters.batch_size)
    return AttackResult(result.examples, tuple("rays" if broken else None for broken in result.broken.tolist()))


ADAPTER = Adapter("rays", version=1, parameters=Parameters, attack=attack, passes=passes)
