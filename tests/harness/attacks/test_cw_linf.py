from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from harness import attacks
from harness.attacks import AttackCall
from harness.evaluation.meter import Meter


def is_broken(result):
    return [component is not None for component in result.broken_by]


@pytest.mark.parametrize("shift", [-100.0, 3.0])
def test_a_constant_added_to_all_logits_changes_nothing(victim, rewired, linf, shift):
    images, labels = victim.first(100)
    expected = attacks.run(attacks.get("cw-linf"), AttackCall(victim.model, images, labels, linf, 4))
    result = attacks.run(attacks.get("cw-linf"), AttackCall(rewired(victim.model, lambda logits: logits + shift), images, labels, linf, 4))
    assert is_broken(result) == is_broken(expected)
    assert torch.allclose(result.adversarial, expected.adversarial, atol=1e-6)


def test_rescaled_logits_change_nothing_although_they_blind_the_cross_entropy(victim, rewired, linf):
    images, labels = victim.first(100)
    scaled = rewired(victim.model, lambda logits: logits * 100)
    expected = attacks.run(attacks.get("cw-linf"), AttackCall(victim.model, images, labels, linf, 4))
    result = attacks.run(attacks.get("cw-linf"), AttackCall(scaled, images, labels, linf, 4))
    assert is_broken(result) == is_broken(expected)
    same = (result.adversarial - expected.adversarial).abs() < 1e-6
    assert float(same.float().mean()) > 0.999
    cross_entropy = attacks.run(attacks.get("pgd"), AttackCall(scaled, images, labels, linf, 4))
    assert sum(is_broken(cross_entropy)) < sum(is_broken(result)) - 5


def test_an_example_does_not_depend_on_the_rest_of_the_batch(victim, linf):
    images, labels = victim.first(12)
    together = attacks.run(attacks.get("cw-linf"), AttackCall(victim.model, images, labels, linf, 4))
    for row in range(0, 12, 5):
        alone = attacks.run(attacks.get("cw-linf"), AttackCall(victim.model, images[row : row + 1], labels[row : row + 1], linf, 4))
        assert is_broken(alone) == is_broken(together)[row : row + 1]
        assert torch.allclose(alone.adversarial, together.adversarial[row : row + 1], atol=1e-6)


def test_random_start_depends_on_the_seed_and_fills_the_ball(victim, linf):
    from harness.attacks.native.ascent import random_start

    images = torch.full((50, 3, 32, 32), 0.5) + torch.arange(50).view(50, 1, 1, 1) / 255
    images = images.clamp(0.1, 0.9)
    first, second, restart = (random_start(images, 0.05, *arguments) - images for arguments in [(1, 0), (2, 0), (1, 1)])
    for noise in (first, second, restart):
        assert float(noise.abs().max()) <= 0.05 + 1e-6
        assert float(noise.std()) == pytest.approx(0.1 / 12**0.5, rel=0.02)
    assert not torch.allclose(first, second, atol=1e-3)
    assert not torch.allclose(first, restart, atol=1e-3)
    assert not torch.allclose(first[0], first[1], atol=1e-3)


def test_first_adversarial_iterate_is_returned(victim, linf):
    spec = attacks.get("cw-linf")
    images, labels = victim.first(60)
    long = attacks.run(spec, AttackCall(victim.model, images, labels, linf, 4))
    for steps in (1, 5, 20):
        short = attacks.run(
            replace(spec, parameters={**spec.parameters, "steps": steps}), AttackCall(victim.model, images, labels, linf, 4)
        )
        early = torch.tensor(is_broken(short))
        assert torch.equal(short.adversarial[early], long.adversarial[early])
    assert 0 < int(early.sum()) <= sum(is_broken(long))


def test_restarts_attack_only_the_surviving_images(victim, linf):
    spec = attacks.get("cw-linf")
    images, labels = victim.first(100)
    one_step = {**spec.parameters, "steps": 1, "step": "1"}
    survives, passes = {}, {}
    for restarts in (1, 10):
        meter = Meter(victim.model, images, labels, linf)
        result = attacks.run(replace(spec, parameters={**one_step, "restarts": restarts}), AttackCall(meter, images, labels, linf, 4))
        survives[restarts] = ~torch.tensor(is_broken(result))
        passes[restarts] = meter.forwards
    assert survives[10].any() and not (survives[10] & ~survives[1]).any()
    # One pass over the clean images, then two per restart of one step: at its start and at its end.
    assert set(passes[1][survives[1]].tolist()) == {1 + 2} and set(passes[10][survives[10]].tolist()) == {1 + 20}
    assert int(passes[10][~survives[1]].max()) <= 1 + 2


def test_broken_images_have_at_least_the_requested_confidence(victim, linf):
    spec = attacks.get("cw-linf")
    images, labels = victim.first(100)
    sure = attacks.run(replace(spec, parameters={**spec.parameters, "confidence": 1.0}), AttackCall(victim.model, images, labels, linf, 4))
    logits = victim.model(sure.adversarial)
    true_logit = logits.gather(1, labels[:, None])[:, 0]
    margin = logits.scatter(1, labels[:, None], -torch.inf).amax(1) - true_logit
    assert any(is_broken(sure))
    assert float(margin[torch.tensor(is_broken(sure))].min()) >= 1.0


def test_a_zero_gradient_is_flagged(victim, rewired, linf):
    images, labels = victim.first(8)
    signs = rewired(victim.model, lambda logits: logits.sign() * 0 + logits.detach())
    result = attacks.run(attacks.get("cw-linf"), AttackCall(signs, images, labels, linf, 4))
    assert [flag.kind for flag in result.flags] == ["zero-gradient"]
    assert "8 of 8" in result.flags[0].message
    assert attacks.run(attacks.get("cw-linf"), AttackCall(victim.model, images, labels, linf, 4)).flags == ()
