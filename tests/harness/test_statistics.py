"""Tests of intervals and paired tests against formulas, published examples and enumeration."""

import itertools
import math

import numpy as np
import pytest

from harness.statistics import Proportion, holm, mcnemar, median_interval, paired_bootstrap, paired_difference, wilson_interval


def by_hand(successes: int, n: int) -> tuple[float, float]:
    z, share = 1.959963984540054, successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return centre - half, centre + half


@pytest.mark.parametrize(("successes", "n"), [(10, 40), (0, 40), (40, 40), (1, 2), (333, 1000)])
def test_wilson_interval_matches_its_formula(successes: int, n: int) -> None:
    assert wilson_interval(successes, n) == pytest.approx(by_hand(successes, n), abs=1e-12)


def test_proportion_as_text() -> None:
    assert str(Proportion(10, 40)) == "25.0 [14.2, 40.2]"
    assert Proportion(10, 40).value == 0.25
    assert str(Proportion(0, 0)) == "" and math.isnan(Proportion(0, 0).value)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_an_invalid_proportion_is_an_error() -> None:
    with pytest.raises(ValueError, match="5 of 4"):
        wilson_interval(5, 4)


def pairs(both: int, only_left: int, only_right: int, neither: int) -> tuple[list[bool], list[bool]]:
    left = [True] * (both + only_left) + [False] * (only_right + neither)
    right = [True] * both + [False] * only_left + [True] * only_right + [False] * neither
    return left, right


@pytest.mark.parametrize(
    ("counts", "published"),
    [
        # Altman and others, Statistics with Confidence, 2000, table 6.2.
        ((14, 5, 0, 22), (0.122, 0.011, 0.226)),
        # Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13:91, 2013, their first example.
        ((1, 1, 7, 12), (-0.286, -0.507, -0.026)),
    ],
)
def test_paired_difference_matches_published_examples(counts: tuple[int, int, int, int], published: tuple[float, float, float]) -> None:
    left, right = pairs(*counts)
    assert paired_difference(left, right) == pytest.approx(published, abs=6e-4)
    difference, low, high = paired_difference(left, right)
    assert paired_difference(right, left) == pytest.approx((-difference, -high, -low))


def test_paired_difference_of_identical_pairs_is_zero() -> None:
    assert paired_difference(*pairs(4, 0, 0, 4))[0] == 0.0
    difference, low, high = paired_difference(*pairs(5, 0, 0, 0))
    assert difference == 0.0 and low == pytest.approx(-high) and -0.5 < low < 0
    assert math.isnan(paired_difference([], [])[0]) and mcnemar([], []) == 1.0
    with pytest.raises(ValueError, match="zip"):
        paired_difference([True], [])


def test_coverage_of_the_paired_interval_is_nominal() -> None:
    chances, n, covered = (0.3, 0.15, 0.1, 0.45), 24, 0.0
    truth = chances[1] - chances[2]
    for both, only_left, only_right in itertools.product(range(n + 1), repeat=3):
        if (neither := n - both - only_left - only_right) < 0:
            continue
        counts = (both, only_left, only_right, neither)
        _, low, high = paired_difference(*pairs(*counts))
        ways = math.factorial(n) // math.prod(map(math.factorial, counts))
        covered += ways * math.prod(chance**count for chance, count in zip(chances, counts, strict=True)) * (low <= truth <= high)
    assert 0.94 < covered < 0.98


def test_bootstrap_agrees_with_scipy() -> None:
    from scipy.stats import bootstrap

    left, right = pairs(120, 40, 25, 65)
    values = np.array(left, float) - np.array(right, float)
    reference = bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1)).confidence_interval
    difference, low, high = paired_bootstrap(left, right)
    assert difference == pytest.approx(15 / 250)
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=0.005)


def test_bootstrap_is_reproducible_and_leaves_the_global_state_unchanged() -> None:
    left, right = pairs(10, 6, 3, 21)
    before = np.random.get_state()[1].tolist()
    assert paired_bootstrap(left, right) == paired_bootstrap(left, right)
    assert np.random.get_state()[1].tolist() == before
    difference, low, high = paired_bootstrap(right, left)
    assert difference == -3 / 40 and low < difference < high
    assert math.isnan(paired_bootstrap([], [])[0]) and paired_bootstrap(*pairs(3, 0, 0, 1))[1:] == (0.0, 0.0)
    with pytest.raises(ValueError):
        paired_bootstrap([True], [])


def test_mcnemar_is_exact_on_the_discordant_images() -> None:
    assert mcnemar(*pairs(1, 1, 7, 12)) == pytest.approx(2 * (1 + 8) / 2**8)
    assert mcnemar(*pairs(100, 0, 6, 3)) == pytest.approx(2 / 2**6)
    assert mcnemar(*pairs(9, 3, 3, 1)) == 1.0 and mcnemar(*pairs(9, 0, 0, 1)) == 1.0
    left, right = pairs(1, 1, 7, 12)
    assert mcnemar(left, right) == mcnemar(right, left)


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.9, 0.02], [1.0, 1.0, 0.06]),
        ([0.04], [0.04]),
        ([], []),
    ],
)
def test_holm_adjusted_p_values(p_values: list[float], adjusted: list[float]) -> None:
    assert holm(p_values) == pytest.approx(adjusted)


def test_holm_controls_the_family_wise_error_rate() -> None:
    import numpy as np

    p_values = np.random.default_rng(0).random((4000, 6))
    alarms = sum(min(holm(row.tolist())) < 0.05 for row in p_values)
    assert 0.035 < alarms / len(p_values) < 0.065


def test_holm_equals_the_closed_bonferroni_test() -> None:
    p_values = [0.012, 0.2, 0.04, 0.011, 0.9]
    subsets = [subset for size in range(1, 6) for subset in itertools.combinations(range(5), size)]
    closed = [
        max(min(1.0, len(subset) * min(p_values[i] for i in subset)) for subset in subsets if position in subset) for position in range(5)
    ]
    assert holm(p_values) == pytest.approx(closed)


def test_median_interval_is_between_order_statistics() -> None:
    # With n = 25, P(X < 8) = 0.0216 for a fair coin, so that the 8th smallest and the 8th largest value are the ends.
    assert median_interval(list(range(25, 0, -1))) == (8.0, 18.0)
    assert median_interval([3.0]) == (3.0, 3.0) and median_interval([1.0, 2.0, float("inf")]) == (1.0, float("inf"))
    with pytest.raises(ValueError, match="no values"):
        median_interval([])
