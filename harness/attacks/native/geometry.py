"""What APGD and FAB need to know about a norm besides its size and projection: start noise, steepest ascent, steps to a plane.

Linf is that of the papers (arXiv 2003.01690, 1907.02044). L2 follows pyautoattack, but finds steps to a plane by Newton's method.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch

from harness.attacks.native.pool import columns
from harness.threats import L2, LINF, Norm

# Maximum number of Newton steps; a handful are enough.
STEPS = 50
# Lower bound of divisors.
TINY = 1e-12


class Geometry(Protocol):
    """Geometry of one norm; images are float32 [N, C, H, W].

    Attributes
    ----------
    norm : Norm
        The norm.
    """

    norm: Norm

    def noise(self, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
        """Return random directions, of any size, float32 on the CPU."""

    def steepest(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the steps of size 1 that raise linear functions with these gradients most; zero for a gradient of zero."""

    def step_to_plane(self, point: torch.Tensor, normal: torch.Tensor, rise: torch.Tensor) -> torch.Tensor:
        """Return the smallest step that stays in [0, 1] and raises normal . x by `rise`, or as nearly as possible, [N, D].

        `point` and `normal` are [N, D], `rise` [N].
        """


class LinfGeometry(Geometry):
    """Geometry of the largest absolute change."""

    norm = LINF

    def noise(self, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
        """Return independent uniform values, see `Geometry.noise`."""
        return torch.empty(shape).uniform_(-1.0, 1.0, generator=generator)

    def steepest(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the signs, see `Geometry.steepest`."""
        return gradient.sign()

    def step_to_plane(self, point: torch.Tensor, normal: torch.Tensor, rise: torch.Tensor) -> torch.Tensor:
        """Move every pixel by the same size or until it meets the box, see `Geometry.step_to_plane`."""
        direction, weight, room = _towards(point, normal, rise)
        size = _least_scale(rise.abs(), weight, room, weight * room, torch.ones_like(rise))
        return direction * torch.minimum(size[:, None], room)


class L2Geometry(Geometry):
    """Geometry of the Euclidean length."""

    norm = L2

    def noise(self, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
        """Return independent normal values, see `Geometry.noise`."""
        return torch.randn(shape, generator=generator)

    def steepest(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradients scaled to length 1, see `Geometry.steepest`."""
        return gradient / columns(self.norm.size(gradient).clamp_min(TINY))

    def step_to_plane(self, point: torch.Tensor, normal: torch.Tensor, rise: torch.Tensor) -> torch.Tensor:
        """Move every pixel in proportion to its weight or until it meets the box, see `Geometry.step_to_plane`."""
        largest = normal.abs().amax(1).clamp_min(TINY)
        direction, weight, room = _towards(point, normal / largest[:, None], rise)
        reach = room / weight.clamp_min(TINY)
        scale = _least_scale(rise.abs() / largest, weight * weight, reach, weight * room, reach.amax(1))
        return direction * torch.minimum(scale[:, None] * weight, room)


def _towards(point: torch.Tensor, normal: torch.Tensor, rise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the signs of the pixels' changes that help, the absolute normal, and the room up to the bound of the box, each [N, D]."""
    # All in float32: on the CPU, masks of another type cost several times as much as the numbers they mask.
    direction = normal.sign() * rise.sign()[:, None]
    upwards = direction.clamp_min(0.0)
    return direction, normal.abs(), (upwards - point) * (2.0 * upwards - 1.0)


def _least_scale(goal: torch.Tensor, rate: torch.Tensor, reach: torch.Tensor, most: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
    """Return the scale, [N], at which the sum over pixels of rate * scale, or of `most` once scale exceeds `reach`, equals `goal`.

    The sum is piecewise linear and concave in the scale, so that Newton's iterates from below reach the root. `rate`, `reach` and `most`
    are [N, D]; `goal` and `largest`, the scale that is returned if the goal is out of reach, are [N].
    """
    scale = torch.zeros_like(goal)
    # Most rows are done after two steps; the others continue alone.
    rows = torch.arange(len(goal), device=goal.device)
    active: tuple[torch.Tensor, ...] = (goal, scale, reach, rate, most, largest)
    for _ in range(STEPS):
        active_goal, previous, active_reach, active_rate, active_most, active_largest = active
        is_free = active_reach.clone().gt_(previous[:, None])
        slope = (active_rate * is_free).sum(1)
        remainder = active_goal - (active_most * (1.0 - is_free)).sum(1)
        improved = torch.where(slope > TINY, remainder / slope.clamp_min(TINY), active_largest).minimum(active_largest)
        improved = torch.maximum(improved, previous)
        moving = (improved != previous).nonzero().flatten()
        scale[rows] = improved
        if not len(moving):
            break
        active = (active_goal, improved, active_reach, active_rate, active_most, active_largest)
        if 2 * len(moving) <= len(rows):
            rows, active = rows[moving], tuple(values[moving] for values in active)
    return scale


LINF_GEOMETRY = LinfGeometry()
GEOMETRIES: Mapping[str, Geometry] = {geometry.norm.name: geometry for geometry in (LINF_GEOMETRY, L2Geometry())}
