"""Tests of the norms: sizes, projections and random starts of each, and the list of names."""

from fractions import Fraction

import pytest
import torch

from harness.threats import L1, L2, LINF, NORMS, Norm
from model_zoo import threat

CLEAN = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
FAR = CLEAN + torch.randn(CLEAN.shape, generator=torch.Generator().manual_seed(1))
each_norm = pytest.mark.parametrize("norm", NORMS.values(), ids=list(NORMS))


def test_norms_match_those_of_threat_models() -> None:
    assert tuple(NORMS) == threat.NORMS and all(NORMS[name].name == name for name in NORMS)


def test_sizes_of_known_perturbations() -> None:
    perturbations = torch.zeros(2, 3, 2, 2)
    perturbations[0, 1, 0, 1], perturbations[0, 2, 1, 1] = 3.0, -4.0
    assert LINF.size(perturbations).tolist() == [4.0, 0.0]
    assert L2.size(perturbations).tolist() == [5.0, 0.0]
    assert L1.size(perturbations).tolist() == [7.0, 0.0]
    assert L2.size(perturbations.double()).dtype == torch.float64


@each_norm
def test_array_and_tensor_sizes_agree(norm: Norm) -> None:
    assert norm.size_of_array((FAR - CLEAN).numpy()) == pytest.approx(norm.size(FAR - CLEAN).numpy(), rel=1e-6)


@each_norm
def test_projections_are_in_ball_and_box_and_idempotent(norm: Norm) -> None:
    projected = norm.project(FAR, CLEAN, 0.1)
    assert float(norm.size(projected - CLEAN).max()) <= 0.1 + 1e-6
    assert float(projected.min()) >= 0.0 and float(projected.max()) <= 1.0
    assert torch.allclose(norm.project(projected, CLEAN, 0.1 + 1e-6), projected)
    assert torch.equal(norm.project(CLEAN, CLEAN, 0.0), CLEAN)


def test_linf_projection_clips_pixels_and_l2_projection_scales() -> None:
    clean, away = torch.full((1, 1, 1, 2), 0.5), torch.tensor([0.3, 0.4]).view(1, 1, 1, 2)
    assert LINF.project(clean + away, clean, 0.35).flatten().tolist() == pytest.approx([0.8, 0.85])
    assert L2.project(clean + away, clean, 0.25).flatten().tolist() == pytest.approx([0.65, 0.7])


@each_norm
def test_noise_is_in_the_ball_and_depends_on_the_generator_only(norm: Norm) -> None:
    first, repeated, different = (norm.noise((50, 3, 8, 8), 0.1, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, repeated) and not torch.equal(first, different)
    sizes = norm.size(first)
    assert first.dtype == torch.float32 and float(sizes.min()) > 0.09 and float(sizes.max()) <= 0.1 + 1e-6
    torch.manual_seed(0)
    assert torch.equal(norm.noise((50, 3, 8, 8), 0.1), first), "without a generator, torch's global one is used"


@each_norm
def test_noise_is_uniform_in_the_ball(norm: Norm) -> None:
    sizes = norm.size(norm.noise((20_000, 2), 1.0, torch.Generator().manual_seed(0)))
    for radius in (0.25, 0.5, 0.75):
        assert float((sizes <= radius).float().mean()) == pytest.approx(radius**2, abs=0.02)


def test_units_and_default_radii() -> None:
    assert (LINF.unit, L2.unit, L1.unit) == (Fraction(1, 255), 1, 1)
    assert (LINF.default_radius, L2.default_radius, L1.default_radius) == (None, Fraction(1, 2), 12)


def test_tolerances_are_far_below_one_step_of_one_pixel() -> None:
    assert all(norm.tolerance <= 1 / 255 / 20 for norm in NORMS.values())


def test_l1_projection_shrinks_all_pixels_alike_and_refills_where_the_box_cut() -> None:
    clean, away = torch.full((1, 1, 1, 3), 0.5), torch.tensor([0.9, -0.4, 0.1]).view(1, 1, 1, 3)
    # The first pixel stops at the box, 0.5 away, until the shrinkage exceeds 0.4.
    assert L1.project(clean + away, clean, 0.8).flatten().tolist() == pytest.approx([1.0, 0.2, 0.5])
    assert L1.project(clean + away, clean, 0.5).flatten().tolist() == pytest.approx([1.0, 0.5, 0.5])
    assert L1.project(clean + away, clean, 0.2).flatten().tolist() == pytest.approx([0.7, 0.5, 0.5])
    assert L1.project(clean + away, clean, 2.0).flatten().tolist() == pytest.approx([1.0, 0.1, 0.6])


def test_l1_projection_is_the_nearest_point_of_ball_and_box() -> None:
    generator = torch.Generator().manual_seed(3)
    clean = torch.rand(8, 1, 5, 5, generator=generator)
    points = clean + 2 * torch.randn(clean.shape, generator=generator)
    projected = L1.project(points, clean, 3.0)
    assert L1.size(projected - clean).tolist() == pytest.approx([3.0] * 8, abs=1e-5)
    # The nearest point z of a convex set satisfies (point - z) . (w - z) <= 0 for every w in the set.
    inside = L1.project(clean + torch.randn(clean.shape, generator=generator), clean, 3.0)
    for others in (inside, clean, L1.project(projected + 0.01 * torch.randn(clean.shape, generator=generator), clean, 3.0)):
        assert float(((points - projected) * (others - projected)).flatten(1).sum(1).max()) <= 1e-4
