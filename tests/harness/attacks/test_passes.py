"""Tests that the predicted numbers of passes of each attack agree with the counts of a meter."""

from dataclasses import replace

import pytest

from harness import attacks
from harness.attacks import AttackCall
from harness.attacks.passes import passes
from harness.evaluation.meter import Meter

SHORT = {"apgd_n_iter": 6, "fab_n_iter": 4, "square_n_queries": 30}
NAMES = ["pgd", "pgd-10x50", "cw-linf", "pgd-adaptive", "autoattack"]


@pytest.mark.parametrize("name", NAMES)
def test_predicted_passes_of_surviving_images_match_the_meter(name, victim, linf):
    spec = attacks.get(name)
    overrides = {"steps": 5} if "steps" in spec.parameters else SHORT
    spec = replace(spec, parameters={**spec.parameters, **overrides})
    images, labels = victim.first(20)
    meter = Meter(victim.model, images, labels, linf)
    result = attacks.run(spec, AttackCall(meter, images, labels, linf, 1), classes=10)
    robust = [row for row, component in enumerate(result.broken_by) if component is None]
    broken, survives = passes(spec, 10)
    assert robust
    # Some attacks make one more pass at the start or end; AutoAttack also checks the model and makes a few more passes per target.
    tolerance = 40 if name == "autoattack" else 3 * spec.parameters["restarts"]
    for row in robust:
        assert 0 <= int(meter.forwards[row]) - survives.forwards <= tolerance
        assert 0 <= int(meter.backwards[row]) - survives.backwards <= tolerance
    assert (broken.forwards, broken.backwards) <= (survives.forwards, survives.backwards)


def test_predicted_passes_of_standard_autoattack():
    _, survives = passes(attacks.get("autoattack"), 10)
    assert survives.backwards == 1910
    assert abs(survives.forwards - 7865) < 20


def test_every_attack_predicts_its_passes():
    assert all(passes(attacks.get(name), 10)[1].forwards > 0 for name in attacks.names())
