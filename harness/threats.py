"""Norms as objects: size and projection of a perturbation, random start, unit of a radius, and the protocol's default radius.

A new norm is one more class and its entry in `NORMS`; `model_zoo.threat.NORMS` lists the names that texts may use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch


class Norm(Protocol):
    """Norm of perturbations, in units of the [0, 1] pixel range.

    Attributes
    ----------
    name : str
        "Linf".
    unit : Fraction
        What radii are shown in: 1/255, one step of a pixel, for Linf; 1 for L2 and L1.
    tolerance : float
        Excess over the radius that the referee allows for float32 rounding; far below one step of one pixel.
    default_radius : Fraction or None
        The protocol's radius for all kinds of data that state none; None if there is none.
    """

    name: str
    unit: Fraction
    tolerance: float
    default_radius: Fraction | None

    def size(self, perturbations: torch.Tensor) -> torch.Tensor:
        """Return the size of each perturbation [N, ...], [N], in the precision of the input."""

    def size_of_array(self, perturbations: np.ndarray) -> np.ndarray:
        """Return `size` of arrays without torch, which is slower per call; the last bits may differ."""

    def project(self, points: torch.Tensor, clean: torch.Tensor, radius: float) -> torch.Tensor:
        """Return points [N, C, H, W] moved into the ball around `clean` and then into the [0, 1] box."""

    def noise(self, shape: Sequence[int], radius: float, generator: torch.Generator | None = None) -> torch.Tensor:
        """Return uniform random points of the ball, one per image, float32 [N, ...] on the CPU.

        If the generator is None, torch's global one is used.
        """


class LinfNorm(Norm):
    """Largest absolute change of a pixel value."""

    name = "Linf"
    unit = Fraction(1, 255)
    tolerance = 1e-6
    default_radius = None

    def size(self, perturbations: torch.Tensor) -> torch.Tensor:
        """Return the largest absolute value per image, see `Norm.size`."""
        return perturbations.flatten(1).abs().amax(1)

    def size_of_array(self, perturbations: np.ndarray) -> np.ndarray:
        """Return the largest absolute value per image, see `Norm.size_of_array`."""
        sizes: np.ndarray = np.abs(perturbations.reshape(len(perturbations), -1)).max(1)
        return sizes

    def project(self, points: torch.Tensor, clean: torch.Tensor, radius: float) -> torch.Tensor:
        """Clip to `clean` plus and minus the radius, and to the box."""
        return points.maximum(clean - radius).minimum(clean + radius).clamp(0.0, 1.0)

    def noise(self, shape: Sequence[int], radius: float, generator: torch.Generator | None = None) -> torch.Tensor:
        """Return independent uniform values between minus and plus the radius, see `Norm.noise`."""
        import torch

        return torch.empty(*shape).uniform_(-radius, radius, generator=generator)


class L2Norm(Norm):
    """Euclidean length of the change."""

    name = "L2"
    unit = Fraction(1)
    tolerance = 1e-6
    default_radius = Fraction(1, 2)

    def size(self, perturbations: torch.Tensor) -> torch.Tensor:
        """Return the length per image, see `Norm.size`."""
        return perturbations.flatten(1).norm(dim=1)

    def size_of_array(self, perturbations: np.ndarray) -> np.ndarray:
        """Return the length per image, see `Norm.size_of_array`."""
        rows = perturbations.reshape(len(perturbations), -1)
        sizes: np.ndarray = np.sqrt((rows * rows).sum(1))
        return sizes

    def project(self, points: torch.Tensor, clean: torch.Tensor, radius: float) -> torch.Tensor:
        """Shorten longer perturbations to the radius, and clip to the box, which never lengthens them."""
        difference = points - clean
        size = _per_image(self.size(difference), difference)
        return points.where(size <= radius, clean + difference * (radius / size)).clamp(0.0, 1.0)

    def noise(self, shape: Sequence[int], radius: float, generator: torch.Generator | None = None) -> torch.Tensor:
        """Return random directions of random length, see `Norm.noise`."""
        import torch

        return _uniform_lengths(self, torch.randn(*shape, generator=generator), radius, generator)


class L1Norm(Norm):
    """Sum of the absolute changes of all pixel values."""

    name = "L1"
    unit = Fraction(1)
    # Roundings of thousands of pixels add up: to 1e-6 on 32x32 images, and more on larger ones.
    tolerance = 1e-4
    default_radius = Fraction(12)

    def size(self, perturbations: torch.Tensor) -> torch.Tensor:
        """Return the sum of absolute values per image, see `Norm.size`."""
        return perturbations.flatten(1).abs().sum(1)

    def size_of_array(self, perturbations: np.ndarray) -> np.ndarray:
        """Return the sum of absolute values per image, see `Norm.size_of_array`."""
        sizes: np.ndarray = np.abs(perturbations.reshape(len(perturbations), -1)).sum(1)
        return sizes

    def project(self, points: torch.Tensor, clean: torch.Tensor, radius: float) -> torch.Tensor:
        """Return the nearest points of the intersection of ball and box (Croce and Hein, arXiv 2103.01208, proposition 2.1)."""
        difference = (points - clean).flatten(1).double()
        flat_clean = clean.flatten(1).double()
        room = flat_clean.where(difference < 0, 1.0 - flat_clean)
        change = _shrunk(difference.abs(), room, radius) * difference.sign()
        return (clean + change.view_as(points).to(points.dtype)).clamp(0.0, 1.0)

    def noise(self, shape: Sequence[int], radius: float, generator: torch.Generator | None = None) -> torch.Tensor:
        """Return random directions of random length, see `Norm.noise`."""
        import torch

        signs = torch.randint(2, tuple(shape), generator=generator) * 2.0 - 1.0
        return _uniform_lengths(self, torch.empty(*shape).exponential_(generator=generator) * signs, radius, generator)


def _uniform_lengths(norm: Norm, directions: torch.Tensor, radius: float, generator: torch.Generator | None) -> torch.Tensor:
    """Return `directions` [N, ...] scaled to the random sizes of points that are uniform in the ball of `radius`."""
    import torch

    # The volume of a ball grows with its radius to the power of its dimension.
    length = radius * torch.rand(len(directions), generator=generator) ** (1.0 / prod(directions.shape[1:]))
    return directions * _per_image(length / norm.size(directions), directions)


def _shrunk(sizes: torch.Tensor, room: torch.Tensor, radius: float) -> torch.Tensor:
    """Return min(max(sizes - s, 0), room), [N, D], with the smallest s >= 0 per row such that the row's sum is at most `radius`.

    As s falls, the sum is piecewise linear: pixel i begins to add to it at s = sizes_i and stops when it has filled its room.
    """
    import torch

    knots, order = torch.cat([sizes, (sizes - room).clamp_min(0.0), torch.zeros_like(sizes[:, :1])], 1).sort(1, descending=True)
    slopes = torch.where(order < sizes.shape[1], 1.0, -1.0).cumsum(1)[:, :-1]
    sums = (slopes * (knots[:, :-1] - knots[:, 1:])).cumsum(1)
    # The segment in which the sum reaches the radius; if it never does, s is zero.
    segment = torch.searchsorted(sums, torch.full_like(sums[:, :1], radius)).clamp_max(sums.shape[1] - 1)
    excess = (sums.gather(1, segment) - radius).clamp_min(0.0)
    s = knots.gather(1, segment + 1) + excess / slopes.gather(1, segment).clamp_min(1.0)
    return (sizes - s).clamp_min(0.0).minimum(room)


def _per_image(values: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Reshape values [N] so that they broadcast over images [N, ...]."""
    return values.view(-1, *[1] * (images.dim() - 1))


LINF, L2, L1 = LinfNorm(), L2Norm(), L1Norm()
NORMS: Mapping[str, Norm] = {norm.name: norm for norm in (LINF, L2, L1)}
