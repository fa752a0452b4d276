"""Tests of the PGD loop: iterates, stopping of single images, and behaviour without a gradient."""

import pytest
import torch
from torch import nn

from harness.attacks.native.ascent import climb, iterates, misclassified, never
from harness.attacks.native.losses import margin
from harness.selftest.toys import THREAT, images, sign, toy

X, Y = (part[:12] for part in images())
EPSILON = THREAT.epsilon


class Comparison(nn.Module):
    """Logits computed with a comparison, which autograd cannot differentiate."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot((batch.mean((1, 2, 3)) > 0.5).long(), 10).float()


def test_stopped_images_leave_the_batch_and_keep_their_point() -> None:
    model, is_running, stopped_at = toy("relu"), torch.ones(len(X), dtype=torch.bool), {}
    for index, iterate in enumerate(iterates(model, margin, X, Y, X, EPSILON, EPSILON / 4, 6, misclassified)):
        assert iterate.rows.tolist() == is_running.nonzero().flatten().tolist()
        assert torch.equal(iterate.stopped, model(iterate.points[iterate.rows]).argmax(1) != Y[iterate.rows])
        assert iterate.losses.tolist() == pytest.approx(margin(model(iterate.points[iterate.rows]), Y[iterate.rows]).tolist(), abs=1e-5)
        assert float((iterate.points - X).abs().max()) <= EPSILON + 1e-6
        stopped_at |= {row: (index, iterate.points[row].clone()) for row in iterate.rows[iterate.stopped].tolist()}
        is_running[iterate.rows[iterate.stopped]] = False
    assert len({index for index, _ in stopped_at.values()}) > 1, "images stop at several iterates"
    assert all(torch.equal(iterate.points[row], point) for row, (_, point) in stopped_at.items()), "an image stays where it stopped"


def test_without_a_stop_condition_every_image_takes_every_step() -> None:
    sizes = [
        (len(iterate.rows), iterate.gradient is None) for iterate in iterates(toy("relu"), margin, X, Y, X, EPSILON, EPSILON / 4, 5, never)
    ]
    assert sizes == [(12, False)] * 5 + [(12, True)]


def test_points_without_a_gradient_do_not_move_and_count_as_stuck() -> None:
    labels = Comparison()(X).argmax(1)
    for iterate in iterates(Comparison(), margin, X, labels, X, EPSILON, EPSILON / 4, 3, misclassified):
        assert iterate.gradient is None and torch.equal(iterate.points, X)
    for model, expected in ((Comparison(), labels), (toy("sign", sign(0.0)), toy("sign", sign(0.0))(X).argmax(1))):
        run = climb(model, margin, X, expected, X, EPSILON, EPSILON / 4, 3)
        assert run.stuck == len(X) and not run.broken.any() and torch.equal(run.examples, X)


def test_broken_images_have_at_least_the_requested_margin() -> None:
    runs = [climb(toy("relu"), margin, X, Y, X, EPSILON, EPSILON / 8, 20, confidence) for confidence in (0.0, 2.0)]
    for run, confidence in zip(runs, (0.0, 2.0), strict=True):
        assert (margin(toy("relu")(run.examples[run.broken]), Y[run.broken]) >= confidence - 1e-5).all()
    assert int(runs[0].broken.sum()) >= int(runs[1].broken.sum()) > 0
