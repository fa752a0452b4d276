"""Tests of the native AutoAttack: images are independent, no pass is repeated, and it is no weaker than plain PGD."""

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
def test_an_image_alone_gets_what_it_gets_in_a_batch_bit_for_bit():
    stored = load_model("cifar10-rn8w32-pruned-binary-k05-p01")
    model = engines.build(stored, "sparse")
    images, labels = datasets.load("cifar10-sample").first(60).tensors()
    right = (stored(images).argmax(1) == labels).nonzero().flatten()[:12]
    images, labels, threat = images[right].contiguous(), labels[right], ThreatModel("Linf", Fraction(4, 255))
    whole = attacks.run(shortened(), AttackCall(model, images, labels, threat, SEED))
    assert 0 < sum(component is not None for component in whole.broken_by) < 12
    order = torch.arange(11, -1, -1)
    turned = attacks.run(shortened(batch_size=7), AttackCall(model, images[order], labels[order], threat, SEED))
    assert turned.broken_by == whole.broken_by[::-1]
    assert torch.equal(turned.adversarial, whole.adversarial[order])
    for row in (0, 5):
        alone = attacks.run(shortened(batch_size=1), AttackCall(model, images[row : row + 1], labels[row : row + 1], threat, SEED))
        assert alone.broken_by == whole.broken_by[row : row + 1]
        assert torch.equal(alone.adversarial, whole.adversarial[row : row + 1])


@pytest.mark.parametrize("component", ["apgd-ce", "apgd-t", "fab-t", "square"])
def test_every_component_breaks_images_and_stays_in_the_ball(victim, linf, component):
    images, labels = victim.first(30)
    result = attacks.run(shortened(components=[component]), AttackCall(victim.model, images, labels, linf, 1))
    broken = torch.tensor([found is not None for found in result.broken_by])
    assert 0 < int(broken.sum()) < 30
    assert set(result.broken_by) <= {component, None}
    assert ((victim.model(result.adversarial).argmax(1) != labels) == broken).all()
    assert float((result.adversarial - images).abs().max()) <= linf.epsilon + 1e-6


def test_it_finds_what_pgd_of_the_package_finds(victim, linf):
    images, labels = victim.first(60)
    plain = attacks.run(attacks.get("pgd"), AttackCall(victim.model, images, labels, linf, 1))
    ours = attacks.run(shortened(apgd_n_iter=100, targets=9), AttackCall(victim.model, images, labels, linf, 1))
    missed = [row for row, found in enumerate(plain.broken_by) if found is not None and ours.broken_by[row] is None]
    assert missed == []
    assert sum(found is not None for found in plain.broken_by) > 5


def test_it_breaks_what_the_package_breaks(victim, linf):
    images, labels = victim.first(40)
    package = replace(attacks.get("autoattack"), parameters={**attacks.get("autoattack").parameters, "square_n_queries": 500})
    theirs = attacks.run(package, AttackCall(victim.model, images, labels, linf, 1))
    spec = attacks.get("fast-autoattack")
    ours = attacks.run(
        replace(spec, parameters={**spec.parameters, "square_n_queries": 500}), AttackCall(victim.model, images, labels, linf, 1)
    )
    assert [found is None for found in ours.broken_by] == [found is None for found in theirs.broken_by]


def test_a_broken_image_is_left_alone_and_passes_are_as_promised(victim, linf):
    images, labels = victim.first(30)
    meter = Meter(victim.model, images, labels, linf)
    spec = shortened()
    result = attacks.run(spec, AttackCall(meter, images, labels, linf, 1), classes=10)
    _, survives = passes(spec, 10)
    for row, found in enumerate(result.broken_by):
        if found is None:
            assert (int(meter.forwards[row]), int(meter.backwards[row])) == (survives.forwards, survives.backwards)
        elif found == "apgd-ce":
            assert int(meter.forwards[row]) <= 22
    assert None in result.broken_by
    assert "apgd-ce" in result.broken_by


def test_fewer_passes_than_the_package_for_an_image_that_survives():
    ours, theirs = (passes(attacks.get(name), 10)[1] for name in ("fast-autoattack", "autoattack"))
    assert ours.forwards < 0.9 * theirs.forwards
    assert ours.backwards <= theirs.backwards + 10


def test_projection_is_the_smallest_step_that_reaches_the_plane():
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


def test_square_changes_one_square_of_the_area_that_the_schedule_says():
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


def test_an_unknown_component_is_refused(victim, linf):
    with pytest.raises(UsageError, match="fab-t"):
        attacks.run(shortened(components=["fab"]), AttackCall(victim.model, *victim.first(2), linf, 1))


def test_a_model_without_gradients_is_flagged_and_square_still_works(victim, rewired, linf):
    steps = rewired(victim.model, lambda logits: (logits * 4).round())
    rows = (steps(victim.images).argmax(1) == victim.labels).nonzero().flatten()[:20]
    result = attacks.run(shortened(), AttackCall(steps, victim.images[rows], victim.labels[rows], linf, 1))
    assert [flag.kind for flag in result.flags] == ["zero-gradient"]
    assert "square" in result.broken_by
