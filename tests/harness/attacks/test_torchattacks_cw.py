from __future__ import annotations

from fractions import Fraction

import pytest
import torch
import torchattacks

from harness import attacks
from harness.attacks import AttackCall
from model_zoo.threat import ThreatModel

L2 = ThreatModel("L2", Fraction(1, 2))


def test_reproduces_the_package_for_positive_logits_and_pixels_inside_the_range(victim, rewired):
    # A constant makes all logits of the victim positive; they stay positive along the attack.
    model = rewired(victim.model, lambda logits: logits + 64)
    inner = (victim.images.flatten(1).amin(1) > 1e-6) & (victim.images.flatten(1).amax(1) < 1 - 1e-6)
    images, labels = victim.images[inner][:40], victim.labels[inner][:40]
    assert float(model(images).min()) > 0
    result = attacks.run(attacks.get("cw-l2"), AttackCall(victim.model, images, labels, L2, 0))
    direct = torchattacks.CW(model, c=1.0, kappa=0.0, steps=100, lr=0.01)(images, labels)
    assert torch.allclose(result.adversarial, direct, atol=1e-4)
    distance = (direct - images).flatten(1).norm(dim=1)
    wrong = model(direct).argmax(1) != labels
    assert [component == "cw" for component in result.broken_by] == (wrong & (distance <= 0.5)).tolist()


@pytest.mark.parametrize("shift", [-100.0, 50.0])
def test_a_constant_added_to_all_logits_changes_nothing(victim, rewired, shift):
    images, labels = victim.first(60)
    expected = attacks.run(attacks.get("cw-l2"), AttackCall(victim.model, images, labels, L2, 0))
    result = attacks.run(attacks.get("cw-l2"), AttackCall(rewired(victim.model, lambda logits: logits + shift), images, labels, L2, 0))
    assert result.broken_by == expected.broken_by
    assert sum(component is not None for component in result.broken_by) > 20
    assert torch.allclose(result.adversarial, expected.adversarial, atol=1e-3)


def test_pixels_at_the_bounds_of_the_range_change(victim):
    images, labels = victim.first(60)
    extreme = (images == 0) | (images == 1)
    assert extreme.any()
    result = attacks.run(attacks.get("cw-l2"), AttackCall(victim.model, images, labels, L2, 0))
    # They move little, because the sigmoid is flat there; without the margin they do not move at all.
    assert float((result.adversarial - images)[extreme].abs().max()) > 3e-6
    stuck = torchattacks.CW(victim.model, c=1.0, kappa=0.0, steps=100, lr=0.01)(images, labels)
    assert torch.equal(stuck[extreme], images[extreme])


def test_an_image_without_adversarial_example_is_returned_unchanged(rewired, victim):
    images, labels = victim.first(5)
    stubborn = rewired(victim.model, lambda logits: logits * 0 + torch.nn.functional.one_hot(labels, 10))
    result = attacks.run(attacks.get("cw-l2"), AttackCall(stubborn, images, labels, L2, 0))
    assert result.broken_by == (None,) * 5
    assert torch.equal(result.adversarial, images)
