"""Tests of the probes on networks with known results."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.attacks.native.losses import LOSSES, cross_entropy, dlr, margin
from harness.evaluation.diagnostics import survives
from harness.evaluation.probes import ascend, logit_scale, survives_noise, zero_gradient
from harness.evaluation.subject import admit
from harness.selftest.toys import THREAT, block, images, sign, toy

X, Y = (part[:40] for part in images())


class Bias(nn.Module):
    """Logits that do not depend on the image."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return torch.arange(10.0).expand(len(batch), 10)


def test_losses_match_their_definitions() -> None:
    logits, labels = torch.tensor([[3.0, 1.0, 0.0, -1.0], [0.0, 4.0, 2.0, 1.0]]), torch.tensor([0, 2])
    assert margin(logits, labels).tolist() == [-2.0, 2.0]
    assert dlr(logits, labels).tolist() == pytest.approx([-2 / 3, 2 / 3])
    assert torch.allclose(cross_entropy(logits, labels), F.cross_entropy(logits, labels, reduction="none"))
    for loss in (margin, dlr):
        assert torch.allclose(loss(logits + 7.0, labels), loss(logits, labels), atol=1e-5)
    assert torch.allclose(dlr(100.0 * logits, labels), dlr(logits, labels))


def test_zero_gradients_are_detected() -> None:
    assert not any(zero_gradient(toy("relu"), X, Y, loss).any() for loss in LOSSES.values())
    assert all(zero_gradient(toy("sign", sign(0.0)), X, Y, loss).all() for loss in LOSSES.values())
    assert zero_gradient(Bias(), X, Y, margin).all()
    saturated = toy("relu", scale=1000.0)
    assert zero_gradient(saturated, X, Y, cross_entropy).float().mean() > 0.9
    assert not zero_gradient(saturated, X, Y, margin).any()


def test_logit_scale_and_saturation() -> None:
    plain, large = logit_scale(toy("relu"), X), logit_scale(toy("relu", scale=1000.0), X)
    assert large.median_gap == pytest.approx(1000 * plain.median_gap, rel=1e-3)
    assert plain.saturated < 0.2 and large.saturated > 0.9


def test_gradient_ascent_breaks_images_that_survive_noise() -> None:
    model = toy("relu")
    robust = {name: ascend(model, X, Y, THREAT.epsilon, loss, 20, 0).robust for name, loss in LOSSES.items()}
    noise = survives_noise(model, X, Y, THREAT.epsilon, 5, 0)
    assert all(int(is_robust.sum()) < 10 for is_robust in robust.values())
    assert int(noise.sum()) > 30
    assert ascend(model, X, Y, 0.0, margin, 5, 0).robust.sum() >= 38
    assert torch.equal(ascend(model, X, Y, THREAT.epsilon, margin, 20, 0).robust, robust["margin"])


def test_too_few_steps_are_reported_as_still_rising() -> None:
    model = toy("relu")
    early = ascend(model, X, Y, THREAT.epsilon / 8, margin, 1, 0)
    assert early.robust.any() and float(early.rising[early.robust].float().mean()) > 0.5


def test_the_result_of_an_image_does_not_depend_on_the_others() -> None:
    model = toy("relu")
    full = ascend(model, X, Y, 0.75 * THREAT.epsilon, margin, 5, 0)
    subset = ascend(model, X[:7], Y[:7], 0.75 * THREAT.epsilon, margin, 5, 0)
    assert 0 < int(full.robust.sum()) < len(X)
    assert torch.equal(full.robust[:7], subset.robust)


def test_rays_breaks_a_model_without_gradients() -> None:
    masked, epsilon = toy("sign", sign(0.0)), THREAT.epsilon
    assert ascend(masked, X, Y, epsilon, margin, 20, 0).robust.sum() > 35
    all_images = block().first(len(X))
    subject = admit(masked, all_images)
    survivors = survives(subject, all_images, THREAT, 0, "rays", {})
    assert survivors.sum() < 30
    assert torch.equal(survives(subject, all_images.slice(3, 9), THREAT, 0, "rays", {}), survivors[3:9])
