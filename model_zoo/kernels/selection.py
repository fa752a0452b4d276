"""Selection of the weights to keep by their scores, and the gradient with respect to the scores, in one pass over memory each."""

from __future__ import annotations

import numpy as np
from numba import njit

# Candidates that the next selection ranks, as a multiple of the number of kept scores.
CANDIDATES = 1.5


class Selection:
    """Selector of the scores of largest magnitude that needs little more than one comparison per score and step.

    Few scores move far between two optimiser steps, so only those above a bound from the previous selection are ranked. Of equal magnitudes
    at the threshold, the first ones are kept.
    """

    def __init__(self) -> None:
        self._bound = np.float32(0.0)

    def largest(self, scores: np.ndarray, kept: int) -> np.ndarray:
        """Return ascending positions, int64 [kept], of the `kept` scores, float32 [n], of largest magnitude; NaN counts as the smallest."""
        places = _at_least(scores, self._bound)
        if len(places) < kept:
            places = _at_least(scores, np.float32(0.0))
        if len(places) < kept:
            missing = np.flatnonzero(np.isnan(scores))[: kept - len(places)]
            return np.sort(np.concatenate([places, missing]))
        magnitudes = np.abs(scores[places])
        ranked = np.sort(magnitudes)[::-1]
        threshold = ranked[kept - 1]
        self._bound = ranked[min(int(CANDIDATES * kept), len(ranked)) - 1]
        is_above, ties = magnitudes > threshold, np.flatnonzero(magnitudes == threshold)
        is_above[ties[: kept - int(is_above.sum())]] = True
        return places[is_above]


@njit(cache=True, nogil=True)
def _at_least(scores, bound):  # type: ignore[no-untyped-def]
    count = 0
    for score in scores:
        count += abs(score) >= bound
    places = np.empty(count, np.int64)
    count = 0
    for place in range(scores.shape[0]):
        if abs(scores[place]) >= bound:
            places[count] = place
            count += 1
    return places


@njit(cache=True, nogil=True)
def by_scores(by_weight, slope, scores):  # type: ignore[no-untyped-def]
    """Turn the gradient with respect to weights into that for scores, in place: times the slope and the score's sign; all float32 [n]."""
    zero = np.float32(0.0)
    for place in range(scores.shape[0]):
        product = by_weight[place] * slope[place]
        by_weight[place] = product if scores[place] > zero else -product if scores[place] < zero else zero
