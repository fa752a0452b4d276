"""Tests of the loop of PGD: which iterates it yields, which images leave it, and where it leads."""

import pytest
import torch
from torch import nn

from harness.attacks.native.ascent import climb, iterates, misclassified, never
from harness.attacks.native.losses import margin
from harness.selftest.toys import THREAT, images, sign, toy

X, Y = (part[:12] for part in images())
EPSILON = THREAT.epsilon


class Compares(nn.Module):
    """Logits that autograd cannot differentiate."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot((batch.mean((1, 2, 3)) > 0.5).long(), 10).float()


def test_images_that_stop_leave_the_batch_and_others_rise() -> None:
    model, left, first = toy("relu"), torch.ones(len(X), dtype=torch.bool), {}
    for place, now in enumerate(iterates(model, margin, X, Y, X, EPSILON, EPSILON / 4, 6, misclassified)):
        assert now.rows.tolist() == left.nonzero().flatten().tolist()
        assert torch.equal(now.stopped, model(now.points[now.rows]).argmax(1) != Y[now.rows])
        assert now.losses.tolist() == pytest.approx(margin(model(now.points[now.rows]), Y[now.rows]).tolist(), abs=1e-5)
        assert float((now.points - X).abs().max()) <= EPSILON + 1e-6
        first |= {row: (place, now.points[row].clone()) for row in now.rows[now.stopped].tolist()}
        left[now.rows[now.stopped]] = False
    assert len({place for place, _ in first.values()}) > 1, "images stop at several iterates"
    assert all(torch.equal(now.points[row], point) for row, (_, point) in first.items()), "an image stays where it stopped"


def test_an_ascent_that_never_stops_takes_all_steps_with_all_images() -> None:
    every = [(len(now.rows), now.gradient is None) for now in iterates(toy("relu"), margin, X, Y, X, EPSILON, EPSILON / 4, 5, never)]
    assert every == [(12, False)] * 5 + [(12, True)]


def test_points_stay_without_a_gradient_and_count_as_stuck() -> None:
    labels = Compares()(X).argmax(1)
    for now in iterates(Compares(), margin, X, labels, X, EPSILON, EPSILON / 4, 3, misclassified):
        assert now.gradient is None and torch.equal(now.points, X)
    for model, expected in ((Compares(), labels), (toy("sign", sign(0.0)), toy("sign", sign(0.0))(X).argmax(1))):
        run = climb(model, margin, X, expected, X, EPSILON, EPSILON / 4, 3)
        assert run.stuck == len(X) and not run.broken.any() and torch.equal(run.examples, X)


def test_a_climb_asks_for_a_margin() -> None:
    runs = [climb(toy("relu"), margin, X, Y, X, EPSILON, EPSILON / 8, 20, confidence) for confidence in (0.0, 2.0)]
    for run, confidence in zip(runs, (0.0, 2.0), strict=True):
        assert (margin(toy("relu")(run.examples[run.broken]), Y[run.broken]) >= confidence - 1e-5).all()
    assert int(runs[0].broken.sum()) >= int(runs[1].broken.sum()) > 0
