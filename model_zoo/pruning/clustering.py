"""k-means on the values of a tensor, with one centre fixed at zero (ATMC, Gui et al. 2019)."""

from __future__ import annotations

import torch

ITERATIONS = 20


def fit_centres(values: torch.Tensor, number: int) -> torch.Tensor:
    """Return `number` sorted centres, one of them zero, that Lloyd's iterations find for nonzero `values` [n].

    The centres start at quantiles of the values, so nothing is drawn at random. Fewer centres are returned if there are fewer values.
    """
    zero = values.new_zeros(1)
    if not len(values) or number < 2:
        return zero
    ranked = values.sort().values
    positions = ((torch.arange(number - 1, dtype=torch.float64, device=values.device) + 0.5) / (number - 1) * len(ranked)).long()
    centres = torch.cat([zero, ranked[positions]]).unique()
    for _ in range(ITERATIONS):
        members = assign(values, centres)
        updated = means(values, members, centres)
        # The centre at zero does not move.
        updated[centres == 0] = 0.0
        if torch.equal(updated, centres):
            break
        centres = updated.unique()
    return centres


def assign(values: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """Return the index of the nearest of the sorted `centres` for each of `values`, int64 of the same shape."""
    return torch.bucketize(values, (centres[1:] + centres[:-1]) / 2.0)


def codes(values: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """Return a code for each of `values`, int64: 0 if the nearest of the sorted `centres` is zero, from 1 for the other centres."""
    nearest = assign(values, centres)
    zero = int((centres == 0).nonzero())
    return torch.where(nearest == zero, 0, nearest + (nearest < zero))


def means(values: torch.Tensor, members: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """Return the mean of the values [n] assigned to each centre; a centre without values does not change."""
    sums = torch.zeros_like(centres, dtype=torch.float64).index_add_(0, members, values.double())
    counts = members.bincount(minlength=len(centres))
    return torch.where(counts > 0, (sums / counts.clamp_min(1)).to(centres.dtype), centres)
