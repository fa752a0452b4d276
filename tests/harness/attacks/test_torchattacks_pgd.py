from __future__ import annotations

from dataclasses import replace

import torch
import torchattacks

from harness import attacks
from harness.attacks import AttackCall
from harness.randomness import isolated


def test_reproduces_the_package(victim, linf):
    images, labels = victim.first(40)
    result = attacks.run(attacks.get("pgd"), AttackCall(victim.model, images, labels, linf, 2**40 + 11))
    with isolated(2**40 + 11):
        direct = torchattacks.PGD(victim.model, eps=linf.epsilon, alpha=float(linf.radius / 20), steps=50, random_start=True)
        expected = direct(images, labels)
    assert torch.equal(result.adversarial, expected)
    wrong = victim.model(expected).argmax(1) != labels
    assert [component == "pgd" for component in result.broken_by] == wrong.tolist()


def test_restarts_keep_broken_images_and_attack_the_rest(victim, linf):
    spec = attacks.get("pgd-10x50")
    sizes = []

    class Recorded(torch.nn.Module):
        def forward(self, batch):
            sizes.append(len(batch))
            return victim.model(batch)

    # One step from a random start, so that restarts matter.
    parameters = {**spec.parameters, "steps": 1, "step": "1"}
    images, labels = victim.first(200)
    ten = attacks.run(replace(spec, parameters=parameters), AttackCall(Recorded().eval(), images, labels, linf, 1), classes=10)
    one = attacks.run(replace(spec, parameters={**parameters, "restarts": 1}), AttackCall(victim.model, images, labels, linf, 1))
    first = torch.tensor([component is not None for component in one.broken_by])
    all_ten = torch.tensor([component is not None for component in ten.broken_by])
    assert (all_ten | ~first).all()
    assert int(all_ten.sum()) > int(first.sum())
    assert torch.equal(ten.adversarial[first], one.adversarial[first])
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 200
    assert sizes[2] == 200 - int(first.sum())


def test_steps_and_random_start_reach_the_package(victim, linf):
    spec = attacks.get("pgd")
    images, labels = victim.first(10)
    parameters = {**spec.parameters, "steps": 1, "step": "1/4", "random_start": False}
    result = attacks.run(replace(spec, parameters=parameters), AttackCall(victim.model, images, labels, linf, 1))
    assert float((result.adversarial - images).abs().max()) <= linf.epsilon / 4 + 1e-7
