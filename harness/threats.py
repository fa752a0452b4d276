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
        What radii are shown in: 1/255, one step of a pixel, for Linf; 1 for L2.
    default_radius : Fraction or None
        The protocol's radius for all kinds of data that state none; None if there is none.
    """

    name: str
    unit: Fraction
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

        direction = torch.randn(*shape, generator=generator)
        # The volume of a ball grows with its radius to the power of its dimension.
        length = radius * torch.rand(shape[0], generator=generator) ** (1.0 / prod(shape[1:]))
        return direction * _per_image(length / self.size(direction), direction)


def _per_image(values: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Reshape values [N] so that they broadcast over images [N, ...]."""
    return values.view(-1, *[1] * (images.dim() - 1))


LINF, L2 = LinfNorm(), L2Norm()
NORMS: Mapping[str, Norm] = {norm.name: norm for norm in (LINF, L2)}
