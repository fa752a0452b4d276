"""Tests of the adaptive attack: each component breaks the defence it was added for and leaves other models unaffected."""

from dataclasses import replace

import torch
from torch import nn

from harness import attacks
from harness.attacks import AttackCall
from harness.selftest.toys import THREAT, images, toy

SPEC = attacks.get("pgd-adaptive")
X, Y = (part[:100] for part in images())


def components_that_break(spec, model):
    """Return, per correctly classified image, the component that broke it, or None."""
    is_correct = model(X).argmax(1) == Y
    result = attacks.run(spec, AttackCall(model, X[is_correct], Y[is_correct], THREAT, 3))
    assert float((result.adversarial - X[is_correct]).abs().max()) <= THREAT.epsilon + 1e-6
    verdict = model(result.adversarial).argmax(1) != Y[is_correct]
    assert verdict.tolist() == [by is not None for by in result.broken_by]
    return list(result.broken_by)


def share(result):
    return sum(by is not None for by in result) / len(result)


def test_breaks_a_model_with_saturated_logits():
    model = toy("relu", scale=1000.0)
    result = components_that_break(SPEC, model)
    assert share(result) - share(components_that_break(attacks.get("pgd"), model)) > 0.1
    assert result.count("ce-rescaled") > 5
    # The attack is invariant to the scale of the logits, up to rounding.
    assert abs(share(result) - share(components_that_break(SPEC, toy("relu")))) <= 0.02


def test_surrogates_break_sign_activations_and_are_used_only_for_step_functions():
    model = toy("sign", torch.sign)
    result = components_that_break(SPEC, model)
    assert share(result) - share(components_that_break(attacks.get("cw-linf"), model)) > 0.1
    assert any(by is not None and by.startswith("margin-") for by in result)
    assert not any(by is not None and by.startswith("margin-") for by in components_that_break(SPEC, toy("relu")))


def test_a_model_without_gradients_raises_no_error():
    class Comparison(nn.Module):
        def forward(self, batch):
            return model(torch.where(batch < 0.5, 0.0, 1.0))

    model = toy("relu")
    few_steps = replace(SPEC, parameters={**SPEC.parameters, "steps": 3})
    assert len(components_that_break(few_steps, Comparison().eval())) > 0


def test_progress_names_every_component():
    seen = []
    attacks.run(SPEC, AttackCall(toy("relu"), X[:4], Y[:4], THREAT, 3, lambda fraction, component: seen.append((fraction, component))))
    assert {component for _, component in seen} == {"ce-rescaled", "margin"}
    assert [fraction for fraction, _ in seen] == sorted(fraction for fraction, _ in seen) and seen[-1][0] == 1.0
