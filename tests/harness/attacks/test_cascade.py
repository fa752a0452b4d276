"""Tests of the cascade: images are independent, hopeless runs end early, and images on which gradients mislead get the full attack."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import nn

from harness import attacks, datasets, engines
from harness.attacks import AttackCall
from harness.attacks.native.cascade_ascent import CascadeAscent, _rank
from harness.attacks.passes import passes
from harness.evaluation.meter import Meter
from harness.selftest.hostile import FallingMargin
from model_zoo.errors import UsageError
from model_zoo.loading import load_model
from model_zoo.threat import ThreatModel

SEED = 2**63 + 5


def cascade(**changes):
    spec = attacks.get("cascade")
    quick = {"apgd_n_iter": 20, "square_n_queries": 300, "square_least": 50, "rays_queries": 300, "steps": 20}
    return replace(spec, parameters={**spec.parameters, **quick, **changes})


def run(model, images, labels, threat, **changes):
    return attacks.run(cascade(**changes), AttackCall(model, images, labels, threat, 1), classes=10)


def metered(model, images, labels, threat, **changes):
    meter = Meter(model, images, labels, threat)
    return run(meter, images, labels, threat, **changes), meter


@pytest.mark.needs_numba
def test_an_image_alone_gets_what_it_gets_in_a_batch_bit_for_bit():
    stored = load_model("cifar10-rn8w32-pruned-binary-k05-p01")
    model = engines.build(stored, "sparse")
    images, labels = datasets.load("cifar10-sample").first(60).tensors()
    right = (stored(images).argmax(1) == labels).nonzero().flatten()[:12]
    images, labels, threat = images[right].contiguous(), labels[right], ThreatModel("Linf", Fraction(4, 255))
    # Every image is suspicious, so that all components attack those that survive.
    spec = cascade(square_progress=0.0, square_n_queries=40, square_least=20, apgd_n_iter=5, starts=2, steps=10)
    whole = attacks.run(spec, AttackCall(model, images, labels, threat, SEED))
    assert 0 < sum(component is not None for component in whole.broken_by) < 12
    order = torch.arange(11, -1, -1)
    other_batch = replace(spec, parameters={**spec.parameters, "batch_size": 7})
    turned = attacks.run(other_batch, AttackCall(model, images[order], labels[order], threat, SEED))
    assert turned.broken_by == whole.broken_by[::-1]
    assert torch.equal(turned.adversarial, whole.adversarial[order])
    for row in (0, 5):
        alone = attacks.run(spec, AttackCall(model, images[row : row + 1], labels[row : row + 1], threat, SEED))
        assert alone.broken_by == whole.broken_by[row : row + 1]
        assert torch.equal(alone.adversarial, whole.adversarial[row : row + 1])


@pytest.mark.parametrize(
    "components", [["margin"], ["ranked"], ["restart"], ["square"], ["square", "rays"], ["square", "apgd-ce"], ["square", "apgd-t"]]
)
def test_every_component_breaks_images_and_stays_in_the_ball(victim, linf, components):
    images, labels = victim.first(30)
    # With 1 query of Square, the images are left to the component after it.
    changes = {"square_progress": 0.0, "square_n_queries": 1, "square_least": 1} if len(components) > 1 else {}
    result = run(victim.model, images, labels, linf, components=components, **changes)
    broken = torch.tensor([component is not None for component in result.broken_by])
    assert 0 < int(broken.sum()) < 30
    assert components[-1] in result.broken_by
    assert ((victim.model(result.adversarial).argmax(1) != labels) == broken).all()
    assert float((result.adversarial - images).abs().max()) <= linf.epsilon + 1e-6


def test_it_breaks_what_autoattack_breaks(victim, linf):
    images, labels = victim.first(40)
    spec = attacks.get("fast-autoattack")
    full = replace(spec, parameters={**spec.parameters, "fab_n_iter": 10, "square_n_queries": 100})
    theirs = attacks.run(full, AttackCall(victim.model, images, labels, linf, 1))
    ours = run(victim.model, images, labels, linf)
    assert [component is None for component in ours.broken_by] == [component is None for component in theirs.broken_by]
    assert 0 < sum(component is None for component in ours.broken_by) < 40


def test_passes_stay_below_the_promise_and_far_below_autoattack(victim, linf):
    images, labels = victim.first(40)
    meter = Meter(victim.model, images, labels, linf)
    result = attacks.run(attacks.get("cascade"), AttackCall(meter, images, labels, linf, 1), classes=10)
    survivors = [row for row, component in enumerate(result.broken_by) if component is None]
    assert survivors
    broken, survives = passes(attacks.get("cascade"), 10)
    assert int(meter.forwards[survivors].max()) <= survives.forwards
    assert int(meter.backwards[survivors].max()) <= survives.backwards
    by_margin = [row for row, component in enumerate(result.broken_by) if component == "margin"]
    assert by_margin
    assert int((meter.forwards + meter.backwards)[by_margin].max()) <= broken.forwards + broken.backwards
    package = passes(attacks.get("autoattack"), 10)[1]
    mean = float((meter.forwards + meter.backwards)[survivors].float().mean())
    assert mean < (package.forwards + package.backwards) / 4


def test_all_components_together_cost_what_is_promised(victim, linf):
    """A survivor on which nothing ends early costs the most that `passes` states."""
    images, labels = victim.first(4)
    tiny = ThreatModel("Linf", Fraction(1, 255000))
    changes = {"square_progress": 0.0, "reach": 1e9}
    result, meter = metered(victim.model, images, labels, tiny, **changes)
    assert set(result.broken_by) == {None}
    survives = passes(cascade(**changes), 10)[1]
    # The meter counts some of RayS's queries, which are far from their image, for another one.
    assert 0.9 * 4 * survives.forwards < int(meter.forwards.sum()) <= 4 * survives.forwards
    assert int(meter.backwards.sum()) <= 4 * survives.backwards


def test_hopeless_runs_end_early_and_promising_ones_do_not(victim, linf):
    images, labels = victim.first(30)
    _, patient = metered(victim.model, images, labels, linf, components=["ranked"], reach=1e9)
    _, early = metered(victim.model, images, labels, linf, components=["ranked"])
    assert int(early.forwards.sum()) < 0.7 * int(patient.forwards.sum())


def test_square_queries_an_honest_model_little_and_one_without_gradients_in_full(victim, rewired, linf):
    images, labels = victim.first(30)
    _, honest = metered(victim.model, images, labels, linf, components=["margin", "square"])
    steps = rewired(victim.model, lambda logits: (logits * 4).round())
    rows = (steps(images).argmax(1) == labels).nonzero().flatten()
    result, masked = metered(steps, images[rows], labels[rows], linf, components=["margin", "square"])
    assert "square" in result.broken_by
    survivors = [row for row, component in enumerate(result.broken_by) if component is None]
    assert int(masked.forwards[survivors].min()) > 300
    assert float(honest.forwards.float().mean()) < 150


def test_apgd_attacks_suspicious_images_only(victim, linf):
    images, labels = victim.first(20)
    assert "apgd-t" not in run(victim.model, images, labels, linf, components=["apgd-t"]).broken_by
    everything = {"square_progress": 0.0, "square_n_queries": 1, "square_least": 1}
    assert "apgd-t" in run(victim.model, images, labels, linf, components=["square", "apgd-t"], **everything).broken_by


def test_a_margin_that_misleads_is_descended(victim, linf):
    images, labels = victim.first(30)
    deceiving = FallingMargin(victim.model, 2.0).eval()
    assert "descent" in run(deceiving, images, labels, linf).broken_by
    assert "descent" not in run(victim.model, images, labels, linf).broken_by


def test_targets_are_the_classes_of_the_nearest_boundaries(linf):
    """A linear model with known distances: the class with the second logit is nearer than that with the first."""
    weights = torch.zeros(4, 3 * 4 * 4)
    weights[1], weights[2], weights[3] = 0.1, 1.0, 0.01
    linear = nn.Linear(48, 4)
    linear.weight.data, linear.bias.data = weights, torch.tensor([3.0, 2.0, 1.0, 0.0]) - weights.sum(1) / 2
    model = nn.Sequential(nn.Flatten(), linear).eval().requires_grad_(False)
    clean, label = torch.full((1, 3, 4, 4), 0.5), torch.tensor([0])
    logits = model(clean).detach()
    component = CascadeAscent(0.01, 5, 5, 1e9, torch.full((1,), -torch.inf), candidates=3, targets=1)
    state = component.start(clean, label, logits, torch.Generator())
    state |= {"row": torch.zeros(3, dtype=torch.int64), "clean": clean.expand(3, -1, -1, -1), "label": label.expand(3)}

    def ask(queries, value):
        point = queries.clone().requires_grad_(True)
        outputs = model(point)
        return outputs.detach(), torch.autograd.grad(value(outputs).sum(), point)[0]

    _, is_over = component.advance(ask, state)
    assert state["target"][~is_over].tolist() == [2]


def test_ranks_are_within_an_image():
    row, values = torch.tensor([0, 0, 0, 4, 4]), torch.tensor([3.0, 1.0, 3.0, 2.0, torch.inf])
    assert _rank(values, row).tolist() == [1, 0, 2, 0, 1]


def test_a_model_of_two_classes_is_attacked(victim, rewired, linf):
    two = rewired(victim.model, lambda logits: logits[:, :2])
    rows = (two(victim.images).argmax(1) == 0).nonzero().flatten()[:20]
    labels = torch.zeros(20, dtype=torch.int64)
    result = attacks.run(cascade(), AttackCall(two, victim.images[rows], labels, linf, 1), classes=2)
    assert any(component is not None for component in result.broken_by)
    assert passes(cascade(), 2)[1].forwards < passes(cascade(), 10)[1].forwards


def test_an_unknown_component_is_refused(victim, linf):
    with pytest.raises(UsageError, match="apgd-dlr"):
        run(victim.model, *victim.first(2), linf, components=["apgd-dlr"])
