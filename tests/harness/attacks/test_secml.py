"""Tests of the minimum-norm attacks of secml-torch: distances, batches and models that they cannot attack."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from harness import attacks
from harness.attacks import AttackCall
from harness.evaluation.meter import Meter
from harness.threats import NORMS
from model_zoo.errors import UsageError
from model_zoo.threat import ThreatModel

pytestmark = pytest.mark.needs_secmlt

L2 = ThreatModel("L2", Fraction(1, 2))
THREATS = {"fmn-linf": ThreatModel("Linf", Fraction(4, 255)), "fmn-l2": L2, "ddn": L2}
each_attack = pytest.mark.parametrize("name", THREATS)


def run(name, model, images, labels, classes=None, **changes):
    spec = attacks.get(name)
    spec = replace(spec, parameters={**spec.parameters, "steps": 100, **changes})
    return attacks.run(spec, AttackCall(model, images, labels, THREATS[name], 0), classes=classes)


@each_attack
def test_distances_of_a_linear_model_are_nearly_the_smallest(name):
    generator = torch.Generator().manual_seed(0)
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2)).eval().requires_grad_(False)
    linear[1].weight.copy_(torch.randn(2, 48, generator=generator))
    linear[1].bias.zero_()
    images = 0.4 + 0.2 * torch.rand(10, 3, 4, 4, generator=generator)
    labels = linear(images).argmax(1)
    result = run(name, linear, images, labels)
    assert (linear(result.adversarial).argmax(1) != labels).all()
    gap = (linear(images)[:, 0] - linear(images)[:, 1]).abs()
    normal = linear[1].weight[0] - linear[1].weight[1]
    smallest = gap / (normal.abs().sum() if name == "fmn-linf" else normal.norm())
    sizes = NORMS[THREATS[name].norm].size(result.adversarial - images)
    assert (sizes >= 0.999 * smallest).all() and (sizes <= 1.15 * smallest + 1e-3).all()


@each_attack
def test_results_do_not_depend_on_the_batch(victim, name):
    images, labels = victim.first(7)
    together = run(name, victim.model, images, labels)
    split = run(name, victim.model, images, labels, batch_size=3)
    torch.testing.assert_close(split.adversarial, together.adversarial, atol=1e-4, rtol=0)
    assert split.broken_by == together.broken_by


@each_attack
def test_a_model_that_cannot_be_broken_leaves_the_images(victim, rewired, name):
    images, labels = victim.first(5)
    stubborn = rewired(victim.model, lambda logits: logits * 0 + torch.nn.functional.one_hot(labels, 10))
    result = run(name, stubborn, images, labels)
    assert result.broken_by == (None,) * 5
    assert torch.equal(result.adversarial, images)


def test_passes_are_counted_per_image(victim):
    images, labels = victim.first(5)
    meter = Meter(victim.model, images, labels, THREATS["ddn"])
    run("ddn", meter, images, labels, classes=10)
    assert meter.forwards.tolist() == [101] * 5 and meter.backwards.tolist() == [100] * 5


def test_ddn_is_for_l2_only(victim, linf):
    with pytest.raises(UsageError, match="DDN is for L2"):
        attacks.run(replace(attacks.get("ddn"), norm="Linf"), AttackCall(victim.model, *victim.first(1), linf, 0))
