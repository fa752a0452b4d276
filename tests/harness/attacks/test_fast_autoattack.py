"""Tests of the native AutoAttack: independence of images, number of passes, and strength compared with PGD and the package."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from pyautoattack.fab_projections import projection_l2
from pyautoattack.square import SquareAttack
from torch.nn import functional as F

from harness import attacks, datasets, engines
from harness.attacks import AttackCall
from harness.attacks.native.geometry import GEOMETRIES
from harness.attacks.native.square import HALVINGS, Square
from harness.attacks.native.square_l2 import SquareL2, pattern
from harness.attacks.passes import passes
from harness.evaluation.meter import Meter
from harness.threats import NORMS
from model_zoo.errors import UsageError
from model_zoo.loading import load_model
from model_zoo.threat import ThreatModel

SEED = 2**63 + 5


NAMES = {"Linf": "fast-autoattack", "L2": "fast-autoattack-l2"}
each_norm = pytest.mark.parametrize(
    "threat", [ThreatModel("Linf", Fraction(4, 255)), ThreatModel("L2", Fraction(1, 2))], ids=["linf", "l2"]
)


def shortened(norm="Linf", **changes):
    spec = attacks.get(NAMES[norm])
    quick = {"apgd_n_iter": 20, "targets": 3, "fab_n_iter": 10, "square_n_queries": 200, "batch_size": 16}
    return replace(spec, parameters={**spec.parameters, **quick, **changes})


@pytest.mark.needs_numba
def test_an_example_does_not_depend_on_the_batch_bit_for_bit():
    stored = load_model("cifar10-rn8w32-pruned-binary-k05-p01")
    model = engines.build(stored, "sparse")
    images, labels = datasets.load("cifar10-sample").first(60).tensors()
    rows = (stored(images).argmax(1) == labels).nonzero().flatten()[:12]
    images, labels, threat = images[rows].contiguous(), labels[rows], ThreatModel("Linf", Fraction(4, 255))
    together = attacks.run(shortened(), AttackCall(model, images, labels, threat, SEED))
    assert 0 < sum(component is not None for component in together.broken_by) < 12
    order = torch.arange(11, -1, -1)
    reversed_order = attacks.run(shortened(batch_size=7), AttackCall(model, images[order], labels[order], threat, SEED))
    assert reversed_order.broken_by == together.broken_by[::-1]
    assert torch.equal(reversed_order.adversarial, together.adversarial[order])
    for row in (0, 5):
        alone = attacks.run(shortened(batch_size=1), AttackCall(model, images[row : row + 1], labels[row : row + 1], threat, SEED))
        assert alone.broken_by == together.broken_by[row : row + 1]
        assert torch.equal(alone.adversarial, together.adversarial[row : row + 1])


@each_norm
@pytest.mark.parametrize("component", ["apgd-ce", "apgd-t", "fab-t", "square"])
def test_every_component_breaks_images_within_the_ball(victim, threat, component):
    images, labels = victim.first(30)
    result = attacks.run(shortened(threat.norm, components=[component]), AttackCall(victim.model, images, labels, threat, 1))
    broken = torch.tensor([name is not None for name in result.broken_by])
    assert 0 < int(broken.sum()) < 30
    assert set(result.broken_by) <= {component, None}
    assert ((victim.model(result.adversarial).argmax(1) != labels) == broken).all()
    assert float(NORMS[threat.norm].size(result.adversarial - images).max()) <= threat.epsilon + 1e-6


def test_breaks_every_image_that_pgd_breaks(victim, linf):
    images, labels = victim.first(60)
    pgd = attacks.run(attacks.get("pgd"), AttackCall(victim.model, images, labels, linf, 1))
    ours = attacks.run(shortened(apgd_n_iter=100, targets=9), AttackCall(victim.model, images, labels, linf, 1))
    missed = [row for row, component in enumerate(pgd.broken_by) if component is not None and ours.broken_by[row] is None]
    assert missed == []
    assert sum(component is not None for component in pgd.broken_by) > 5


@each_norm
def test_breaks_the_same_images_as_the_package(victim, threat):
    # The package's projections in L2 sort all pixels, which takes most of the time.
    n, changes = (40, {}) if threat.norm == "Linf" else (15, {"targets": 3, "fab_n_iter": 10, "apgd_n_iter": 50})
    images, labels = victim.first(n)
    expected, result = (
        attacks.run(
            replace(spec, parameters={**spec.parameters, "square_n_queries": 500, **changes}),
            AttackCall(victim.model, images, labels, threat, 1),
        )
        for spec in map(attacks.get, (NAMES[threat.norm].removeprefix("fast-"), NAMES[threat.norm]))
    )
    assert [component is None for component in result.broken_by] == [component is None for component in expected.broken_by]
    assert None in result.broken_by and len(set(result.broken_by)) > 1


@pytest.mark.slow
def test_breaks_the_same_images_of_a_shipped_model_as_the_package_in_l2():
    model, threat = load_model("cifar10-rn8s29-dense"), ThreatModel("L2", Fraction(1, 2))
    images, labels = datasets.load("cifar10-sample").first(40).tensors()
    rows = (model(images).argmax(1) == labels).nonzero().flatten()[:12]
    call = AttackCall(model, images[rows].contiguous(), labels[rows], threat, 1)
    ours, package = (attacks.run(attacks.get(name), call).broken_by for name in ("fast-autoattack-l2", "autoattack-l2"))
    assert [component is None for component in ours] == [component is None for component in package]
    assert {None} < set(ours)


def test_broken_images_get_no_further_passes_and_survivors_the_predicted_number(victim, linf):
    images, labels = victim.first(30)
    meter = Meter(victim.model, images, labels, linf)
    spec = shortened()
    result = attacks.run(spec, AttackCall(meter, images, labels, linf, 1), classes=10)
    _, predicted = passes(spec, 10)
    for row, component in enumerate(result.broken_by):
        if component is None:
            assert (int(meter.forwards[row]), int(meter.backwards[row])) == (predicted.forwards, predicted.backwards)
        elif component == "apgd-ce":
            assert int(meter.forwards[row]) <= 22
    assert None in result.broken_by
    assert "apgd-ce" in result.broken_by


def test_needs_fewer_passes_than_the_package_for_a_surviving_image():
    ours, package = (passes(attacks.get(name), 10)[1] for name in ("fast-autoattack", "autoattack"))
    assert ours.forwards < 0.9 * package.forwards
    assert ours.backwards <= package.backwards + 10


def test_projection_is_the_smallest_step_to_the_plane():
    generator = torch.Generator().manual_seed(0)
    point, normal = torch.rand(40, 50, generator=generator), torch.randn(40, 50, generator=generator)
    rise = torch.randn(40, generator=generator) * 5
    step = GEOMETRIES["Linf"].step_to_plane(point, normal, rise)
    assert float((point + step).min()) >= -1e-6
    assert float((point + step).max()) <= 1 + 1e-6
    torch.testing.assert_close((normal * step).sum(1), rise, atol=1e-4, rtol=1e-4)
    size = step.abs().amax(1, keepdim=True)
    # Every coordinate moves by the largest step or until it meets the box, so no smaller step reaches the plane.
    room = torch.where(normal * rise[:, None] > 0, 1 - point, point)
    torch.testing.assert_close(step.abs(), torch.minimum(size.expand_as(room), room), atol=1e-6, rtol=0)
    for geometry in GEOMETRIES.values():
        far = geometry.step_to_plane(point, normal, torch.full((40,), 1e6))
        torch.testing.assert_close(far, torch.where(normal > 0, 1 - point, -point), atol=1e-6, rtol=0)


@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_l2_step_to_a_plane_is_that_of_the_package(scale):
    generator = torch.Generator().manual_seed(0)
    point, normal = torch.rand(40, 50, generator=generator), torch.randn(40, 50, generator=generator)
    normal[:, :5] = 0.0
    rise = torch.randn(40, generator=generator) * 5
    step = GEOMETRIES["L2"].step_to_plane(point, scale * normal, scale * rise)
    torch.testing.assert_close((normal * step).sum(1), rise, atol=1e-4, rtol=1e-4)
    expected = projection_l2(point, normal, (normal * point).sum(1) + rise)
    torch.testing.assert_close(step, expected, atol=1e-4, rtol=0)


def test_square_sizes_follow_the_schedule():
    component = Square(0.1, 100, 0.8)
    clean, label = torch.full((1, 3, 32, 32), 0.5), torch.tensor([0])
    state = component.start(clean, label, torch.zeros(1, 10), torch.Generator().manual_seed(0))
    state |= {"clean": clean, "label": label}
    assert state["query"].sub(clean).abs().allclose(torch.tensor(0.1))
    sides = []
    for _ in range(60):
        before = state["best"] if state["best_margin"] > -torch.inf else state["query"]
        component.advance(lambda queries, value: (F.one_hot(torch.zeros(1, dtype=torch.int64), 10).float(), None), state)
        changed = (state["query"] != before).any(1)[0]
        if changed.any():
            sides.append(int(changed.any(1).sum()))
            assert int(changed.sum()) == int(changed.any(0).sum()) * int(changed.any(1).sum())
    assert sides[0] == 29
    assert sides[-1] == 14
    assert HALVINGS[:2] == (10, 50)


@pytest.mark.parametrize("side", [3, 6, 29])
def test_patterns_of_l2_squares_are_those_of_the_package(side):
    package = SquareAttack(None, norm="L2", device="cpu")
    # The package turns half of its patterns.
    expected = package.eta(side)
    assert torch.allclose(pattern(side), expected, atol=1e-6) or torch.allclose(pattern(side).T, expected, atol=1e-6)


def test_queries_of_the_l2_square_stay_on_the_sphere_inside_the_box():
    component = SquareL2(0.1, 100, 0.8)
    clean, label = torch.full((1, 3, 32, 32), 0.5), torch.tensor([0])
    state = component.start(clean, label, torch.zeros(1, 10), torch.Generator().manual_seed(0)) | {"clean": clean, "label": label}
    queries = []
    for _ in range(30):
        queries.append(state["query"].clone())
        component.advance(lambda queries, value: (F.one_hot(torch.zeros(1, dtype=torch.int64), 10).float(), None), state)
    assert torch.tensor([float((query - clean).norm()) for query in queries]).allclose(torch.tensor(0.1))
    assert len({query.numpy().tobytes() for query in queries}) == 30
    sides = state["squares"][0, :, 4].tolist()
    assert (sides[0], sides[60], {side % 2 for side in sides}) == (29, 15, {1})


def test_a_norm_without_native_components_is_an_error(victim):
    with pytest.raises(UsageError, match="Linf and L2"):
        attacks.run(replace(shortened(), norm="L1"), AttackCall(victim.model, *victim.first(2), ThreatModel("L1", Fraction(12)), 1))


def test_unknown_component_is_an_error(victim, linf):
    with pytest.raises(UsageError, match="fab-t"):
        attacks.run(shortened(components=["fab"]), AttackCall(victim.model, *victim.first(2), linf, 1))


def test_a_model_without_gradients_is_flagged_and_square_breaks_it(victim, rewired, linf):
    steps = rewired(victim.model, lambda logits: (logits * 4).round())
    rows = (steps(victim.images).argmax(1) == victim.labels).nonzero().flatten()[:20]
    result = attacks.run(shortened(), AttackCall(steps, victim.images[rows], victim.labels[rows], linf, 1))
    assert [flag.kind for flag in result.flags] == ["zero-gradient"]
    assert "square" in result.broken_by
