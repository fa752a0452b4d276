"""Tests of the native AutoAttack: independence of images, number of passes, and strength compared with PGD and the package."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch.nn import functional as F

from harness import attacks, datasets, engines
from harness.attacks import AttackCall
from harness.attacks.native.fab import project
from harness.attacks.native.square import HALVINGS, Square
from harness.attacks.passes import passes
from harness.evaluation.meter import Meter
from model_zoo.errors import UsageError
from model_zoo.loading import load_model
from model_zoo.threat import ThreatModel

SEED = 2**63 + 5


def shortened(**changes):
    spec = attacks.get("fast-autoattack")
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


@pytest.mark.parametrize("component", ["apgd-ce", "apgd-t", "fab-t", "square"])
def test_every_component_breaks_images_within_the_ball(victim, linf, component):
    images, labels = victim.first(30)
    result = attacks.run(shortened(components=[component]), AttackCall(victim.model, images, labels, linf, 1))
    broken = torch.tensor([name is not None for name in result.broken_by])
    assert 0 < int(broken.sum()) < 30
    assert set(result.broken_by) <= {component, None}
    assert ((victim.model(result.adversarial).argmax(1) != labels) == broken).all()
    assert float((result.adversarial - images).abs().max()) <= linf.epsilon + 1e-6


def test_breaks_every_image_that_pgd_breaks(victim, linf):
    images, labels = victim.first(60)
    pgd = attacks.run(attacks.get("pgd"), AttackCall(victim.model, images, labels, linf, 1))
    ours = attacks.run(shortened(apgd_n_iter=100, targets=9), AttackCall(victim.model, images, labels, linf, 1))
    missed = [row for row, component in enumerate(pgd.broken_by) if component is not None and ours.broken_by[row] is None]
    assert missed == []
    assert sum(component is not None for component in pgd.broken_by) > 5


def test_breaks_the_same_images_as_the_package(victim, linf):
    images, labels = victim.first(40)
    package = replace(attacks.get("autoattack"), parameters={**attacks.get("autoattack").parameters, "square_n_queries": 500})
    expected = attacks.run(package, AttackCall(victim.model, images, labels, linf, 1))
    spec = attacks.get("fast-autoattack")
    ours = attacks.run(
        replace(spec, parameters={**spec.parameters, "square_n_queries": 500}), AttackCall(victim.model, images, labels, linf, 1)
    )
    assert [component is None for component in ours.broken_by] == [component is None for component in expected.broken_by]


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
    step = project(point, normal, rise)
    assert float((point + step).min()) >= -1e-6
    assert float((point + step).max()) <= 1 + 1e-6
    torch.testing.assert_close((normal * step).sum(1), rise, atol=1e-4, rtol=1e-4)
    size = step.abs().amax(1, keepdim=True)
    # Every coordinate moves by the largest step or until it meets the box, so no smaller step reaches the plane.
    room = torch.where(normal * rise[:, None] > 0, 1 - point, point)
    torch.testing.assert_close(step.abs(), torch.minimum(size.expand_as(room), room), atol=1e-6, rtol=0)
    far = project(point, normal, torch.full((40,), 1e6))
    torch.testing.assert_close(far, torch.where(normal > 0, 1 - point, -point), atol=1e-6, rtol=0)


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


def test_unknown_component_is_an_error(victim, linf):
    with pytest.raises(UsageError, match="fab-t"):
        attacks.run(shortened(components=["fab"]), AttackCall(victim.model, *victim.first(2), linf, 1))


def test_a_model_without_gradients_is_flagged_and_square_breaks_it(victim, rewired, linf):
    steps = rewired(victim.model, lambda logits: (logits * 4).round())
    rows = (steps(victim.images).argmax(1) == victim.labels).nonzero().flatten()[:20]
    result = attacks.run(shortened(), AttackCall(steps, victim.images[rows], victim.labels[rows], linf, 1))
    assert [flag.kind for flag in result.flags] == ["zero-gradient"]
    assert "square" in result.broken_by
