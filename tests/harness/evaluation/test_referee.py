"""Tests of the referee: norms and predictions are recomputed and do not depend on what the attack reports."""

from fractions import Fraction

import pytest
import torch
from torch import nn

from harness.evaluation.referee import judge, predict
from model_zoo.threat import ThreatModel

THREAT = ThreatModel("Linf", Fraction(8, 255))


class Brightness(nn.Module):
    """Class 1 if the mean pixel is above a half, else class 0."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = images.mean((1, 2, 3))
        return torch.stack([0.5 - mean, mean - 0.5], 1)


IMAGES = torch.full((6, 3, 4, 4), 0.49)
LABELS = torch.zeros(6, dtype=torch.int64)


def test_norms_box_and_predictions_are_recomputed() -> None:
    adversarial = IMAGES.clone()
    adversarial[0] += 8 / 255  # legal, changes the prediction
    adversarial[1] += 9 / 255  # outside the ball
    adversarial[2, 0, 0, 0] = float("nan")
    adversarial[3] -= 8 / 255  # legal, does not change the prediction
    adversarial[4, 0, 0, 0] = -0.001  # outside the box
    verdict = judge(Brightness(), IMAGES, adversarial, LABELS, THREAT)
    assert verdict.legal.tolist() == [True, False, False, True, False, True]
    assert verdict.broken.tolist() == [True, False, False, False, False, False]
    assert verdict.prediction.tolist() == [1, 1, 0, 0, 0, 0]
    assert verdict.linf[0].item() == pytest.approx(8 / 255, abs=1e-6)
    assert verdict.l2[0].item() == pytest.approx(8 / 255 * 48**0.5, rel=1e-5)
    assert verdict.linf[5].item() == 0.0


def test_the_l2_threat_model_uses_the_l2_norm() -> None:
    adversarial = IMAGES + 0.05
    length = 0.05 * 48**0.5
    inside = judge(Brightness(), IMAGES, adversarial, LABELS, ThreatModel("L2", Fraction(1, 2)))
    outside = judge(Brightness(), IMAGES, adversarial, LABELS, ThreatModel("L2", Fraction(1, 3)))
    assert 1 / 3 < length < 1 / 2
    assert bool(inside.broken.all()) and not bool(outside.legal.any())


def test_the_l1_threat_model_sums_absolute_changes() -> None:
    threat = ThreatModel("L1", Fraction(1))
    adversarial = torch.stack([IMAGES[0]] * 4)
    adversarial[:, 0] += torch.tensor([0.99, 1.0, 1.001, 1.1]).view(4, 1, 1) / 16
    verdict = judge(Brightness(), IMAGES[:4], adversarial, LABELS[:4], threat)
    assert float(verdict.linf.max()) < 0.07 and float(verdict.l2.max()) < 0.3, "inside the balls of the same radius in other norms"
    assert verdict.legal.tolist() == verdict.broken.tolist() == [True, True, False, False]


def test_predictions_are_made_in_fixed_batches() -> None:
    sizes: list[int] = []

    class Recorder(Brightness):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            sizes.append(len(images))
            return super().forward(images)

    assert predict(Recorder(), torch.rand(120, 3, 4, 4)).shape == (120,)
    assert sizes == [50, 50, 20]
