"""Number of times that an attack runs the model for one image, computed before the attack starts."""

from __future__ import annotations

from dataclasses import dataclass

from harness.attacks.parameters import RestartedAscent
from harness.attacks.spec import AttackSpec
from harness.plugins import ATTACK_ADAPTERS


@dataclass(frozen=True)
class Passes:
    """Number of forward and backward passes for one image."""

    forwards: int
    backwards: int

    def __add__(self, other: Passes) -> Passes:
        """Sum of two costs."""
        return Passes(self.forwards + other.forwards, self.backwards + other.backwards)

    def __mul__(self, times: int) -> Passes:
        """Cost repeated `times` times."""
        return Passes(self.forwards * times, self.backwards * times)


def passes_of_restarts(parameters: RestartedAscent, classes: int) -> tuple[Passes, Passes]:
    """Return the most passes for an image that the first restart breaks, and the passes for one that survives all restarts."""
    restart_cost = Passes(parameters.steps + 1, parameters.steps)
    return restart_cost, restart_cost * parameters.restarts


def passes(spec: AttackSpec, classes: int) -> tuple[Passes, Passes]:
    """Return the most passes for an image that is broken at once and for one that survives; zero if the adapter does not state them."""
    adapter = ATTACK_ADAPTERS.get(spec.adapter)
    if adapter.passes is None:
        return Passes(0, 0), Passes(0, 0)
    return adapter.passes(adapter.parse(spec.parameters), classes)
