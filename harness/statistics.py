"""Intervals for accuracies, and comparisons of two models on the same images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

CONFIDENCE = 0.95
BOOTSTRAP_DRAWS = 10_000


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


def mcnemar(left: Sequence[bool], right: Sequence[bool]) -> float:
    """Two-sided p value of McNemar's exact test (McNemar 1947): that `left` and `right` are right equally often on the same images.

    Only images on which the two differ count: without a difference, they fall on either side by the toss of a coin. 1 where none differs.
    """
    from scipy.stats import binomtest

    _, only_left, only_right, _ = _paired_counts(left, right)
    discordant = only_left + only_right
    return float(binomtest(only_left, discordant, 0.5).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p values of tests made together, in their order: below 5 % by chance is then any of them in 5 % of cases (Holm 1979).

    S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979, 65-70: the smallest counts
    as often as there are tests, the next once less, and none less than the one before it.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, position in enumerate(sorted(range(len(p_values)), key=lambda position: p_values[position])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = largest
    return adjusted


def paired_difference(left: Sequence[bool], right: Sequence[bool]) -> tuple[float, float, float]:
    """How much more often `left` is right than `right` on the same images, as a fraction, and the ends of its 95 % interval.

    The interval is Newcombe's method 10: the two Wilson intervals, squared and added, less what the correlation of the two explains, with
    his continuity correction (R. G. Newcombe, Improved confidence intervals for the difference between binomial proportions based on
    paired data, Statistics in Medicine 17, 1998, 2635-2650). NaN, -1 and 1 where there is no image.

    Raises
    ------
    ValueError
        If the two have different numbers of images.
    """
    both, only_left, only_right, neither = _paired_counts(left, right)
    n = both + only_left + only_right + neither
    if not n:
        return float("nan"), -1.0, 1.0
    ours, theirs = Proportion(both + only_left, n), Proportion(both + only_right, n)
    (our_low, our_high), (their_low, their_high) = ours.interval, theirs.interval
    margins = ours.successes * (n - ours.successes) * theirs.successes * (n - theirs.successes)
    concordance = both * neither - only_left * only_right
    corrected = max(concordance - n / 2, 0.0) if concordance > 0 else concordance
    correlation = corrected / math.sqrt(margins) if margins else 0.0

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(one * one - 2 * correlation * one * other + other * other, 0.0))

    difference = (only_left - only_right) / n
    below = reach(ours.value - our_low, their_high - theirs.value)
    above = reach(theirs.value - their_low, our_high - ours.value)
    return difference, difference - below, difference + above


def paired_bootstrap(left: Sequence[bool], right: Sequence[bool], draws: int = BOOTSTRAP_DRAWS) -> tuple[float, float, float]:
    """The difference of `paired_difference` with the 95 % percentile interval of a bootstrap over images (Efron and Tibshirani 1993, 13).

    Images are drawn with replacement and keep their pair. What matters of a draw is how many images of the four kinds (both right, one,
    the other, neither) are in it, and those counts are multinomial, so it is they that are drawn. The generator is seeded with the counts:
    the same outcomes have the same interval. It assumes nothing about the proportions, but on few images, or where the two never differ,
    it is too narrow: quote Newcombe's there. NaN, -1 and 1 where there is no image.

    Raises
    ------
    ValueError
        If the two have different numbers of images.
    """
    import numpy as np

    counts = _paired_counts(left, right)
    n = sum(counts)
    if not n:
        return float("nan"), -1.0, 1.0
    drawn = np.random.default_rng(counts).multinomial(n, np.array(counts) / n, size=draws)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile((drawn[:, 1] - drawn[:, 2]) / n, [tail, 1 - tail])
    return (counts[1] - counts[2]) / n, float(low), float(high)


def unpaired_difference(one: Proportion, other: Proportion | float) -> tuple[float, float, float]:
    """`one` less `other`, of different images or runs: the difference and its 95 % interval, as fractions.

    Newcombe's hybrid of Wilson intervals for independent proportions (R. G. Newcombe, Interval estimation for the difference between
    independent proportions, Statistics in Medicine 17, 1998, 873-890, method 10). Where `other` is a bare number, nobody knows over how
    many images: the interval is then that of `one` alone.
    """
    low, high = one.interval
    if not isinstance(other, Proportion):
        return one.value - other, low - other, high - other
    their_low, their_high = other.interval
    difference = one.value - other.value
    below = math.hypot(one.value - low, their_high - other.value)
    above = math.hypot(high - one.value, other.value - their_low)
    return difference, difference - below, difference + above


def _paired_counts(left: Sequence[bool], right: Sequence[bool]) -> tuple[int, int, int, int]:
    """On how many images both are right, only the left, only the right, neither."""
    pairs = [(bool(one), bool(other)) for one, other in zip(left, right, strict=True)]
    return pairs.count((True, True)), pairs.count((True, False)), pairs.count((False, True)), pairs.count((False, False))
