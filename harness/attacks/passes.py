"""Number of times that an attack runs the model for one image, computed before the attack starts."""

from __future__ import annotations

from dataclasses import dataclass

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


def passes(spec: AttackSpec, classes: int) -> tuple[Passes, Passes]:
    """Return what an image costs that is broken at once, and one that survives, at most; zero for an adapter that does not say."""
    adapter = ATTACK_ADAPTERS.get(spec.adapter)
    if adapter.passes is None:
        return Passes(0, 0), Passes(0, 0)
    return adapter.passes(adapter.parse(spec.parameters), classes)
