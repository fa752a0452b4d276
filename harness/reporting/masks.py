"""Statistics of pruning masks, and the same statistics of random masks that keep as many weights of a layer, drawn without replacement."""

from __future__ import annotations

import math

import numpy as np


def kept_by_channel(mask: np.ndarray, axis: int) -> np.ndarray:
    """Return the number of kept weights per output channel (axis 0) or input channel (axis 1), int64 [channels].

    `mask` is bool [out, in, k, k].
    """
    return np.asarray(mask.sum(tuple(dimension for dimension in range(4) if dimension != axis)), dtype=np.int64)


def kept_by_kernel(mask: np.ndarray) -> np.ndarray:
    """Return the number of kept weights per kernel of a mask, bool [out, in, k, k], as int64 [out, in]."""
    return np.asarray(mask.sum((2, 3)), dtype=np.int64)


def used_at_random(weights: int, kept: int, groups: int) -> tuple[float, float]:
    """Return mean and standard deviation of the number of parts of a layer in which a random mask keeps at least one weight.

    The layer has `groups` equal parts (channels or kernels) of s = weights / groups weights. One particular part is empty with probability
    C(weights - s, kept) / C(weights, kept), and two particular parts are both empty with C(weights - 2 s, kept) / C(weights, kept).

    Raises
    ------
    ValueError
        If the parts are not equal, or `kept` is not between 0 and `weights`.
    """
    if weights % groups or not 0 <= kept <= weights:
        raise ValueError(f"cannot keep {kept} of {weights} weights in {groups} equal parts")
    size = weights // groups
    one_empty, two_empty = (_all_outside(weights, kept, number * size) for number in (1, 2))
    mean_empty = groups * one_empty
    variance = mean_empty + groups * (groups - 1) * two_empty - mean_empty**2
    return groups - mean_empty, math.sqrt(max(variance, 0.0))


def sorted_at_random(weights: int, kept: int, groups: int, seed: int, draws: int = 500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the kept weights per part of a layer under random masks, fullest part first: mean, 2.5 % and 97.5 % quantile, each [groups].

    The counts of the parts have a multivariate hypergeometric distribution; their order statistics are estimated from `draws` samples.
    """
    generator = np.random.default_rng(seed)
    counts = generator.multivariate_hypergeometric([weights // groups] * groups, kept, size=draws, method="marginals")
    ordered = -np.sort(-counts, axis=1)
    low, high = np.quantile(ordered, [0.025, 0.975], axis=0)
    return ordered.mean(axis=0), low, high


def kernels_at_random(weights: int, kept: int, size: int) -> np.ndarray:
    """Return the probability that a random mask keeps 0, 1, ... `size` of a kernel's `size` weights, hypergeometric, float64 [size + 1]."""
    from scipy.stats import hypergeom

    return np.asarray(hypergeom.pmf(np.arange(size + 1), weights, kept, size), dtype=np.float64)


def _all_outside(weights: int, kept: int, size: int) -> float:
    """Return the probability that none of `kept` random positions is among `size` particular ones of `weights`."""
    if kept > weights - size:
        return 0.0
    return math.exp(_log_choose(weights - size, kept) - _log_choose(weights, kept))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
