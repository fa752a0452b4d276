"""Intervals for accuracies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

CONFIDENCE = 0.95


@cache
def wilson_interval(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval for a proportion (Wilson 1927), as fractions; (0, 1) where n is 0.

    Raises
    ------
    ValueError
        If `successes` is not between 0 and n.
    """
    from scipy.stats import binomtest

    if not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is not a proportion")
    if n == 0:
        return 0.0, 1.0
    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class Proportion:
    """`successes` of `n` images."""

    successes: int
    n: int

    @property
    def value(self) -> float:
        """The proportion as a fraction; NaN where n is 0."""
        return self.successes / self.n if self.n else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval, as fractions."""
        return wilson_interval(self.successes, self.n)

    def __str__(self) -> str:
        """In per cent: "25.0 [14.2, 40.2]"."""
        if not self.n:
            return ""
        low, high = self.interval
        return f"{100 * self.value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
