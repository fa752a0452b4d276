"""Tests of the formulas for random masks, compared with all masks of a small layer or with many random masks."""

from itertools import combinations

import numpy as np
import pytest

from harness.reporting.masks import kept_by_channel, kept_by_kernel, kernels_at_random, sorted_at_random, used_at_random


def every_mask(weights: int, kept: int) -> np.ndarray:
    """Return all masks of a layer with `kept` weights: bool [masks, weights]."""
    masks = np.zeros((0, weights), dtype=bool)
    for indices in combinations(range(weights), kept):
        mask = np.zeros((1, weights), dtype=bool)
        mask[0, list(indices)] = True
        masks = np.concatenate([masks, mask])
    return masks


def test_counts_per_channel_and_per_kernel() -> None:
    mask = np.zeros((2, 3, 2, 2), dtype=bool)
    mask[0, 1] = True
    mask[1, 1, 0, 0] = mask[1, 2, 1, 1] = True
    assert kept_by_channel(mask, 0).tolist() == [4, 2]
    assert kept_by_channel(mask, 1).tolist() == [0, 5, 1]
    assert kept_by_kernel(mask).tolist() == [[0, 4, 0], [0, 1, 1]]


@pytest.mark.parametrize(("weights", "kept", "groups"), [(12, 4, 3), (12, 3, 6), (8, 7, 4), (10, 0, 5), (6, 6, 3)])
def test_used_groups_have_mean_and_spread_over_all_masks(weights: int, kept: int, groups: int) -> None:
    used = every_mask(weights, kept).reshape(-1, groups, weights // groups).any(axis=2).sum(axis=1)
    assert used_at_random(weights, kept, groups) == pytest.approx((used.mean(), used.std()), abs=1e-6)


def test_unequal_parts_are_an_error() -> None:
    with pytest.raises(ValueError, match="3 of 10 weights in 4 equal parts"):
        used_at_random(10, 3, 4)


def test_kernels_have_the_distribution_over_all_masks() -> None:
    expected = np.bincount(every_mask(12, 5)[:, :4].sum(axis=1), minlength=5) / 792
    assert kernels_at_random(12, 5, 4) == pytest.approx(expected)
    assert kernels_at_random(147_456, 398, 9).sum() == pytest.approx(1.0)


def test_sorted_groups_match_all_masks_and_depend_on_the_seed() -> None:
    ordered = -np.sort(-every_mask(12, 5).reshape(-1, 3, 4).sum(axis=2), axis=1)
    mean, low, high = sorted_at_random(12, 5, 3, seed=1, draws=20_000)
    assert mean == pytest.approx(ordered.mean(axis=0), abs=0.02)
    assert low.tolist() == np.quantile(ordered, 0.025, axis=0).tolist() and high.tolist() == np.quantile(ordered, 0.975, axis=0).tolist()
    repeated, other_seed = (sorted_at_random(900, 50, 10, seed)[0].tolist() for seed in (1, 2))
    assert sorted_at_random(900, 50, 10, 1)[0].tolist() == repeated != other_seed
    assert mean.sum() == pytest.approx(5)
