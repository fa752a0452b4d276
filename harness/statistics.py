"""Confidence intervals for accuracies, and tests and intervals for comparing models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

CONFIDENCE = 0.95
BOOTSTRAP_DRAWS = 10_000


@cache
def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Return Wilson's score interval for a proportion (Wilson 1927), as fractions; (0.0, 1.0) if n is 0.

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
    interval = binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the distribution-free 95 % interval of a median: two order statistics, the extremes if there are fewer than six values.

    Raises
    ------
    ValueError
        If there are no values.
    """
    from scipy.stats import binom

    if not values:
        raise ValueError("the median of no values")
    ordered = sorted(values)
    skipped = max(int(binom.ppf((1 - CONFIDENCE) / 2, len(ordered), 0.5)) - 1, 0)
    return float(ordered[skipped]), float(ordered[-1 - skipped])


def clustered_interval(shares: Sequence[float], size: int) -> tuple[float, float]:
    """Return a 95 % interval for the mean of `shares`, each the share of right answers among the `size` questions about one image.

    Answers about one image are not independent. The interval is Wilson's with the effective number of independent answers, which is the
    number that would give a proportion the standard error of this mean (E. L. Korn and B. I. Graubard, Confidence intervals for proportions
    with small expected number of positive counts estimated from survey data, Survey Methodology 24, 1998, 193-201). It is at least the
    number of images, at most the number of answers, and the number of images if all shares are equal. The interval is (0.0, 1.0) if there
    are no images.
    """
    n = len(shares)
    if n == 0:
        return 0.0, 1.0
    mean = sum(shares) / n
    squared_error = sum((share - mean) ** 2 for share in shares) / max(n - 1, 1) / n
    effective = min(max(mean * (1 - mean) / squared_error, n), n * size) if squared_error > 0 else n
    # The quantile of the normal distribution at 0.975.
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    centre = mean + z * z / (2 * effective)
    margin = z * math.sqrt(mean * (1 - mean) / effective + (z / (2 * effective)) ** 2)
    scale = 1 + z * z / effective
    return max((centre - margin) / scale, 0.0), min((centre + margin) / scale, 1.0)


@dataclass(frozen=True)
class Proportion:
    """Proportion of `successes` among `n` images."""

    successes: int
    n: int

    @property
    def value(self) -> float:
        """The proportion as a fraction; NaN if n is 0."""
        return self.successes / self.n if self.n else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval, as fractions."""
        return wilson_interval(self.successes, self.n)

    def __str__(self) -> str:
        """Return the proportion and its interval in per cent, "25.0 [14.2, 40.2]"; an empty string if n is 0."""
        if not self.n:
            return ""
        low, high = self.interval
        return f"{100 * self.value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def mcnemar(left: Sequence[bool], right: Sequence[bool]) -> float:
    """Return the two-sided p-value of McNemar's exact test (McNemar 1947) that two models are right equally often on the same images.

    Only images on which the two differ count: under the null hypothesis, each of these favours either model with probability 1/2. The
    p-value is 1.0 if there are none.

    Raises
    ------
    ValueError
        If the two have different numbers of images.
    """
    from scipy.stats import binomtest

    _, only_left, only_right, _ = _paired_counts(left, right)
    discordant = only_left + only_right
    return float(binomtest(only_left, discordant, 0.5).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm-adjusted p-values in input order; they control the family-wise error rate (Holm 1979).

    The smallest p-value is multiplied by the number of tests, the next by one less, and so on; an adjusted value is at most 1 and at least
    the one before it. S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979, 65-70.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, position in enumerate(sorted(range(len(p_values)), key=lambda position: p_values[position])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = largest
    return adjusted


def paired_difference(left: Sequence[bool], right: Sequence[bool]) -> tuple[float, float, float]:
    """Return how much more often `left` is right than `right` on the same images, as a fraction, and the ends of its 95 % interval.

    The interval is Newcombe's method 10: the margins of the two Wilson intervals are squared and added, less a term for the correlation of
    the two, with his continuity correction (R. G. Newcombe, Improved confidence intervals for the difference between binomial proportions
    based on paired data, Statistics in Medicine 17, 1998, 2635-2650). The result is NaN, -1.0 and 1.0 if there are no images.

    Raises
    ------
    ValueError
        If the two have different numbers of images.
    """
    both, only_left, only_right, neither = _paired_counts(left, right)
    n = both + only_left + only_right + neither
    if not n:
        return float("nan"), -1.0, 1.0
    left_rate, right_rate = Proportion(both + only_left, n), Proportion(both + only_right, n)
    (left_low, left_high), (right_low, right_high) = left_rate.interval, right_rate.interval
    margins = left_rate.successes * (n - left_rate.successes) * right_rate.successes * (n - right_rate.successes)
    concordance = both * neither - only_left * only_right
    corrected = max(concordance - n / 2, 0.0) if concordance > 0 else concordance
    correlation = corrected / math.sqrt(margins) if margins else 0.0

    def reach(first: float, second: float) -> float:
        return math.sqrt(max(first * first - 2 * correlation * first * second + second * second, 0.0))

    difference = (only_left - only_right) / n
    below = reach(left_rate.value - left_low, right_high - right_rate.value)
    above = reach(right_rate.value - right_low, left_high - left_rate.value)
    return difference, difference - below, difference + above


def paired_bootstrap(left: Sequence[bool], right: Sequence[bool], draws: int = BOOTSTRAP_DRAWS) -> tuple[float, float, float]:
    """Return the difference of `paired_difference` and its 95 % bootstrap percentile interval over images (Efron and Tibshirani 1993, 13).

    Images are drawn with replacement, with both answers. Only the numbers of images of the four kinds matter (both right, only the left,
    only the right, neither), and these are multinomial, so they are drawn directly. The generator is seeded with the observed counts, so
    equal outcomes have equal intervals. The interval is distribution-free, but too narrow on few images or if the two never differ: report
    Newcombe's then. The result is NaN, -1.0 and 1.0 if there are no images.

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
    samples = np.random.default_rng(counts).multinomial(n, np.array(counts) / n, size=draws)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile((samples[:, 1] - samples[:, 2]) / n, [tail, 1 - tail])
    return (counts[1] - counts[2]) / n, float(low), float(high)


def unpaired_difference(one: Proportion, other: Proportion | float) -> tuple[float, float, float]:
    """Return `one` minus `other`, of different images or runs, and the ends of its 95 % interval, as fractions.

    Newcombe's hybrid of Wilson intervals for independent proportions (R. G. Newcombe, Interval estimation for the difference between
    independent proportions, Statistics in Medicine 17, 1998, 873-890, method 10). If `other` is a plain number, its number of images is
    unknown, and only the uncertainty of `one` is included.
    """
    low, high = one.interval
    if not isinstance(other, Proportion):
        return one.value - other, low - other, high - other
    other_low, other_high = other.interval
    difference = one.value - other.value
    below = math.hypot(one.value - low, other_high - other.value)
    above = math.hypot(high - one.value, other.value - other_low)
    return difference, difference - below, difference + above


def _paired_counts(left: Sequence[bool], right: Sequence[bool]) -> tuple[int, int, int, int]:
    """Return on how many images both are right, only the left, only the right, and neither."""
    pairs = [(bool(left_correct), bool(right_correct)) for left_correct, right_correct in zip(left, right, strict=True)]
    return pairs.count((True, True)), pairs.count((True, False)), pairs.count((False, True)), pairs.count((False, False))
