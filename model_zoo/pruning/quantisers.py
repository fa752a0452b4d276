"""Quantisers of ATMC (Gui et al. 2019): the few values that the nonzero entries of one tensor may have."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from model_zoo.errors import UsageError
from model_zoo.pruning.clustering import assign, codes, fit_centres, means

# Numbers of bits for which values are clustered; besides these, there are one bit and the 32 bits of float32.
CLUSTERED = range(2, 9)


class Quantiser(ABC):
    """Constraint on the values of a flat tensor [n]; code 0 is the value zero.

    Attributes
    ----------
    is_exact : bool
        Whether every value is allowed, so that there is nothing to quantise.
    """

    is_exact = False

    @abstractmethod
    def nearest(self, values: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Return `values` moved to the nearest allowed values, zero among them; those are fitted to the entries in the mask `kept`."""

    @abstractmethod
    def codes(self, values: torch.Tensor) -> torch.Tensor:
        """Return the code of every entry, int64 [n]."""

    @abstractmethod
    def hold(self, values: torch.Tensor, members: torch.Tensor) -> torch.Tensor:
        """Return the nearest tensor to `values` whose entries have the codes `members`; entries of code 0 become zero."""


class Clusters(Quantiser):
    """At most 2^bits values, zero among them, fitted by k-means; a code is an index of a centre."""

    def __init__(self, bits: int) -> None:
        self.number = 2**bits

    def nearest(self, values: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """See `Quantiser.nearest`."""
        centres = fit_centres(values[kept], self.number)
        return centres[assign(values, centres)]

    def codes(self, values: torch.Tensor) -> torch.Tensor:
        """Return 0 for entries nearest to the centre at zero, from 1 for the other centres."""
        return codes(values, fit_centres(values[values != 0], self.number))

    def hold(self, values: torch.Tensor, members: torch.Tensor) -> torch.Tensor:
        """Set all entries of one code to their mean."""
        centres = means(values, members, values.new_zeros(self.number))
        centres[0] = 0.0
        return centres[members]


class Signs(Quantiser):
    """-alpha, zero and +alpha; codes are 1 for -alpha and 2 for +alpha."""

    def nearest(self, values: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Return the nearest of the three values; alpha is the mean magnitude of kept entries."""
        alpha = values[kept].abs().mean() if bool(kept.any()) else values.new_zeros(())
        return torch.where(values.abs() > alpha / 2.0, values.sign() * alpha, 0.0)

    def codes(self, values: torch.Tensor) -> torch.Tensor:
        """Return the codes of the signs of all nonzero entries, however small."""
        return torch.where(values == 0, 0, torch.where(values < 0, 1, 2))

    def hold(self, values: torch.Tensor, members: torch.Tensor) -> torch.Tensor:
        """Set all entries to their fixed sign times one alpha."""
        signs = values.new_tensor([0.0, -1.0, 1.0])[members]
        return signs * ((values * signs).sum() / signs.abs().sum().clamp_min(1.0))


class Exact(Quantiser):
    """Every float32 value; code 1 is a nonzero entry."""

    is_exact = True

    def nearest(self, values: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Return `values`."""
        return values

    def codes(self, values: torch.Tensor) -> torch.Tensor:
        """Return 1 for nonzero entries."""
        return (values != 0).long()

    def hold(self, values: torch.Tensor, members: torch.Tensor) -> torch.Tensor:
        """Set the entries of code 0 to zero."""
        return values * members


def make_quantiser(bits: int) -> Quantiser:
    """Return the quantiser for 1, 2 to 8 or 32 bits per value; raises UsageError for another number."""
    if bits == 1:
        return Signs()
    if bits in CLUSTERED:
        return Clusters(bits)
    if bits == 32:
        return Exact()
    raise UsageError(f"the bits of a value must be from 1 to {CLUSTERED[-1]}, or 32, not {bits}")
