"""Tests of the adaptive attack: each component breaks the defence it was added for and leaves other models unaffected."""

from dataclasses import replace

import torch
from torch import nn

from harness import attacks
from harness.attacks import AttackCall
from harness.selftest.toys import THREAT, images, toy

SPEC = attacks.get("pgd-adaptive")
X, Y = (part[:100] for part in images())


def broken(spec, model):
    """Return, per correctly classified image, the component that broke it, or None."""
    right = model(X).argmax(1) == Y
    result = attacks.run(spec, AttackCall(model, X[right], Y[right], THREAT, 3))
    assert float((result.adversarial - X[right]).abs().max()) <= THREAT.epsilon + 1e-6
    verdict = model(result.adversarial).argmax(1) != Y[right]
    assert verdict.tolist() == [by is not None for by in result.broken_by]
    return list(result.broken_by)


def share(result):
    return sum(by is not None for by in result) / len(result)


def test_rescaling_finds_what_saturation_hides():
    model = toy("relu", scale=1000.0)
    result = broken(SPEC, model)
    assert share(result) - share(broken(attacks.get("pgd"), model)) > 0.1
    assert result.count("ce-rescaled") > 5
    # The attack is invariant to the scale of the logits, up to rounding.
    assert abs(share(result) - share(broken(SPEC, toy("relu")))) <= 0.02


def test_surrogates_find_what_steps_hide_and_only_where_there_are_steps():
    model = toy("sign", torch.sign)
    result = broken(SPEC, model)
    assert share(result) - share(broken(attacks.get("cw-linf"), model)) > 0.1
    assert any(by is not None and by.startswith("margin-") for by in result)
    assert not any(by is not None and by.startswith("margin-") for by in broken(SPEC, toy("relu")))


def test_a_network_of_comparisons_is_survived():
    class Comparison(nn.Module):
        def forward(self, batch):
            return model(torch.where(batch < 0.5, 0.0, 1.0))

    model = toy("relu")
    few = replace(SPEC, parameters={**SPEC.parameters, "steps": 3})
    assert len(broken(few, Comparison().eval())) > 0


def test_every_component_is_reported():
    seen = []
    attacks.run(SPEC, AttackCall(toy("relu"), X[:4], Y[:4], THREAT, 3, lambda fraction, component: seen.append((fraction, component))))
    assert {component for _, component in seen} == {"ce-rescaled", "margin"}
    assert [fraction for fraction, _ in seen] == sorted(fraction for fraction, _ in seen) and seen[-1][0] == 1.0
