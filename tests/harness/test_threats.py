"""Tests of the norms: sizes, projections and random starts of every one, and that all known names are there."""

from fractions import Fraction

import pytest
import torch

from harness.threats import L2, LINF, NORMS, Norm
from model_zoo import threat

CLEAN = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
FAR = CLEAN + torch.randn(CLEAN.shape, generator=torch.Generator().manual_seed(1))
EVERY = pytest.mark.parametrize("norm", NORMS.values(), ids=list(NORMS))


def test_norms_are_those_of_threat_models() -> None:
    assert tuple(NORMS) == threat.NORMS and all(NORMS[name].name == name for name in NORMS)


def test_sizes_are_what_the_names_say() -> None:
    perturbations = torch.zeros(2, 3, 2, 2)
    perturbations[0, 1, 0, 1], perturbations[0, 2, 1, 1] = 3.0, -4.0
    assert LINF.size(perturbations).tolist() == [4.0, 0.0]
    assert L2.size(perturbations).tolist() == [5.0, 0.0]
    assert L2.size(perturbations.double()).dtype == torch.float64


@EVERY
def test_sizes_of_arrays_are_those_of_tensors(norm: Norm) -> None:
    assert norm.size_of_array((FAR - CLEAN).numpy()) == pytest.approx(norm.size(FAR - CLEAN).numpy(), rel=1e-6)


@EVERY
def test_a_projection_is_in_the_ball_and_the_box_and_leaves_points_that_are(norm: Norm) -> None:
    projected = norm.project(FAR, CLEAN, 0.1)
    assert float(norm.size(projected - CLEAN).max()) <= 0.1 + 1e-6
    assert float(projected.min()) >= 0.0 and float(projected.max()) <= 1.0
    assert torch.allclose(norm.project(projected, CLEAN, 0.1 + 1e-6), projected)
    assert torch.equal(norm.project(CLEAN, CLEAN, 0.0), CLEAN)


def test_a_projection_in_linf_clips_pixels_and_one_in_l2_keeps_the_direction() -> None:
    clean, away = torch.full((1, 1, 1, 2), 0.5), torch.tensor([0.3, 0.4]).view(1, 1, 1, 2)
    assert LINF.project(clean + away, clean, 0.35).flatten().tolist() == pytest.approx([0.8, 0.85])
    assert L2.project(clean + away, clean, 0.25).flatten().tolist() == pytest.approx([0.65, 0.7])


@EVERY
def test_noise_is_in_the_ball_and_depends_only_on_the_generator(norm: Norm) -> None:
    one, again, other = (norm.noise((50, 3, 8, 8), 0.1, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other)
    sizes = norm.size(one)
    assert one.dtype == torch.float32 and float(sizes.min()) > 0.09 and float(sizes.max()) <= 0.1 + 1e-6
    torch.manual_seed(0)
    assert torch.equal(norm.noise((50, 3, 8, 8), 0.1), one), "without a generator it is torch's global one"


@EVERY
def test_noise_fills_the_ball_uniformly(norm: Norm) -> None:
    sizes = norm.size(norm.noise((20_000, 2), 1.0, torch.Generator().manual_seed(0)))
    for radius in (0.25, 0.5, 0.75):
        assert float((sizes <= radius).float().mean()) == pytest.approx(radius**2, abs=0.02)


def test_units_and_radii_are_those_of_the_protocol() -> None:
    assert (LINF.unit, L2.unit) == (Fraction(1, 255), 1)
    assert (LINF.default_radius, L2.default_radius) == (None, Fraction(1, 2))
