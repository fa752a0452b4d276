"""Tests that run for every registered attack."""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from harness import attacks
from harness.attacks import AttackCall
from harness.plugins import ATTACK_ADAPTERS
from harness.threats import NORMS
from model_zoo.threat import ThreatModel

QUICK = {"apgd_n_iter": 10, "apgd_restarts": 1, "apgd_t_targets": 2, "targets": 2, "fab_n_iter": 5, "square_n_queries": 50}
NAMES = [
    pytest.param(name, marks=pytest.mark.needs_secmlt if ATTACK_ADAPTERS.get(attacks.get(name).adapter).extra else ())
    for name in attacks.names()
]
RADII = {"Linf": Fraction(4, 255), "L2": Fraction(1, 2), "L1": Fraction(12)}
WITHOUT_GRADIENTS = ("square", "rays", "transfer")


def quick(name):
    """Return the named specification with fewer iterations, if it would take long otherwise."""
    spec = attacks.bind(attacks.get(name), "cifar10", "")
    return replace(spec, parameters={key: QUICK.get(key, value) for key, value in spec.parameters.items()})


def threat_for(name):
    norm = attacks.get(name).norm
    return ThreatModel(norm, RADII[norm])


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def test_broken_by_agrees_with_the_returned_examples(victim, name):
    spec, threat = quick(name), threat_for(name)
    images, labels = victim.first(16)
    original = images.clone()
    result = attacks.run(spec, AttackCall(victim.model, images, labels, threat, 7))
    assert torch.equal(images, original)
    assert result.adversarial.shape == images.shape
    assert result.adversarial.dtype == torch.float32
    assert not result.adversarial.requires_grad
    assert len(result.broken_by) == 16
    assert float(result.adversarial.min()) >= 0.0
    assert float(result.adversarial.max()) <= 1.0
    sizes = NORMS[spec.norm].size(result.adversarial - images)
    broken = torch.tensor([component is not None for component in result.broken_by])
    assert 0 < int(broken.sum()) < 16
    assert ((victim.model(result.adversarial).argmax(1) != labels) | ~broken).all()
    if spec.bounded:
        assert float(sizes.max()) <= threat.epsilon + NORMS[spec.norm].tolerance
        assert ((victim.model(result.adversarial).argmax(1) != labels) == broken).all()
    else:
        assert float(sizes[broken].max()) <= threat.epsilon
        assert float(sizes.max()) > threat.epsilon  # examples beyond the radius are returned, but not as broken


def test_repeated_calls_are_bit_identical_and_have_no_side_effects(victim, name):
    def trace(frame, event, argument):
        return None

    spec, threat = quick(name), threat_for(name)
    before, outer = (random.getstate(), np.random.get_state(), torch.get_rng_state()), sys.gettrace()
    sys.settrace(trace)
    try:
        first = attacks.run(spec, AttackCall(victim.model, *victim.first(8), threat, 2**63 + 1))
        trace_during_run = sys.gettrace()
    finally:
        sys.settrace(outer)
    torch.rand(3), np.random.rand(3)
    with torch.no_grad():
        second = attacks.run(spec, AttackCall(victim.model, *victim.first(8), threat, 2**63 + 1), classes=10)
    assert trace_during_run is trace
    assert random.getstate() == before[0]
    np.random.set_state(before[1])
    torch.set_rng_state(before[2])
    assert first.adversarial.numpy().tobytes() == second.adversarial.numpy().tobytes()
    assert first.broken_by == second.broken_by
    assert all(parameter.grad is None for parameter in victim.model.parameters())


def test_global_random_state_is_unchanged(victim, name):
    numpy_state, torch_state = np.random.get_state(), torch.get_rng_state()
    attacks.run(quick(name), AttackCall(victim.model, *victim.first(2), threat_for(name), 3))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), numpy_state, strict=True))


def test_progress_rises_to_one_and_nothing_is_printed(victim, name, capfd):
    reports = []
    attacks.run(quick(name), AttackCall(victim.model, *victim.first(8), threat_for(name), 3, lambda *report: reports.append(report)))
    fractions = [fraction for fraction, _ in reports]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0.0
    assert fractions[-1] == pytest.approx(1.0)
    assert any(0.0 < fraction < 0.9 for fraction in fractions)
    assert not victim.model._forward_hooks
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_models_without_parameters_and_non_contiguous_images_give_the_same_result(victim, name, capfd):
    class Buffers(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            for key, value in model.named_parameters():
                self.register_buffer(key.replace(".", "_"), value.data)

        def forward(self, images):
            pooled = torch.nn.functional.avg_pool2d(images, 4).flatten(1)
            hidden = torch.relu(torch.nn.functional.linear(pooled, self.get_buffer("2_weight"), self.get_buffer("2_bias")))
            return torch.nn.functional.linear(hidden, self.get_buffer("4_weight"), self.get_buffer("4_bias"))

    images, labels = victim.first(6)
    expected = attacks.run(quick(name), AttackCall(victim.model, images, labels, threat_for(name), 5))
    permuted = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert not permuted.is_contiguous()
    result = attacks.run(quick(name), AttackCall(Buffers(victim.model).eval(), permuted, labels, threat_for(name), 5))
    assert result.broken_by == expected.broken_by
    assert torch.equal(result.adversarial, expected.adversarial)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_models_with_few_classes_are_attacked(victim, rewired, name, classes):
    model = rewired(victim.model, lambda logits: logits[:, :classes])
    rows = ((victim.labels < classes) & (model(victim.images).argmax(1) == victim.labels)).nonzero().flatten()[:12]
    result = attacks.run(quick(name), AttackCall(model, victim.images[rows], victim.labels[rows], threat_for(name), 0))
    # Attacks that do not use the model's gradients may break none of a dozen images.
    assert name in WITHOUT_GRADIENTS or any(component is not None for component in result.broken_by)
    assert "classes" not in [flag.kind for flag in result.flags]


def test_empty_and_single_image_batches(victim, name):
    empty = attacks.run(quick(name), AttackCall(victim.model, *victim.first(0), threat_for(name), 0))
    assert empty.adversarial.shape == (0, 3, 32, 32)
    assert empty.broken_by == ()
    assert len(attacks.run(quick(name), AttackCall(victim.model, *victim.first(1), threat_for(name), 0)).broken_by) == 1


def test_every_batch_is_attacked(victim, name):
    spec = quick(name)
    spec = replace(spec, parameters={**spec.parameters, "batch_size": 5})
    images, labels = victim.first(60)
    first, second = victim.model(images).topk(2).values.T
    # The first batch and the short last batch hold the images with the smallest margins, however the processor rounds.
    ranked = (first - second).argsort()
    rows = torch.cat([ranked[3:8], ranked[-5:], ranked[:3]])
    images, labels = images[rows], labels[rows]
    result = attacks.run(spec, AttackCall(victim.model, images, labels, threat_for(name), 0))
    broken = torch.tensor([component is not None for component in result.broken_by])
    assert broken[:5].any()
    assert broken[10:].any()
    moved = (result.adversarial != images).flatten(1).any(1)
    assert (moved | ~broken).all()
