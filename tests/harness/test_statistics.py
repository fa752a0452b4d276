"""Intervals, against numbers worked out from Wilson's formula by hand."""

import math

import pytest

from harness.statistics import Proportion, wilson_interval


def by_hand(successes: int, n: int) -> tuple[float, float]:
    z, share = 1.959963984540054, successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return centre - half, centre + half


@pytest.mark.parametrize(("successes", "n"), [(10, 40), (0, 40), (40, 40), (1, 2), (333, 1000)])
def test_the_interval_is_wilsons(successes: int, n: int) -> None:
    assert wilson_interval(successes, n) == pytest.approx(by_hand(successes, n), abs=1e-12)


def test_a_proportion_in_words() -> None:
    assert str(Proportion(10, 40)) == "25.0 [14.2, 40.2]"
    assert Proportion(10, 40).value == 0.25
    assert str(Proportion(0, 0)) == "" and math.isnan(Proportion(0, 0).value)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_what_is_no_proportion_is_refused() -> None:
    with pytest.raises(ValueError, match="5 of 4"):
        wilson_interval(5, 4)
