"""Tests of RayS: it uses decisions only, stays in the ball, and breaks more images with more queries."""

import torch
from torch import nn

from harness.attacks.native import pool
from harness.attacks.native.rays import RayS
from harness.selftest.toys import images, toy, undefended

X, Y = (part[:30] for part in images())


class Decisions(nn.Module):
    """One-hot decisions of a network, with a count of the images queried."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.queries = model, 0

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        self.queries += len(batch)
        return nn.functional.one_hot(self.model(batch).argmax(1), 10).float()


def run(model: nn.Module, epsilon: float, n_queries: int, x: torch.Tensor = X, y: torch.Tensor = Y) -> pool.Pooled:
    with torch.no_grad():
        return pool.run(RayS(epsilon, n_queries), "rays", model, x, y, model(x), torch.arange(len(x)), 3, len(x))


def test_examples_are_adversarial_and_in_the_ball() -> None:
    model, epsilon = undefended(), 8 / 255
    result = run(Decisions(model), epsilon, 400)
    assert 5 <= int(result.broken.sum()) < len(X)
    broken = result.examples[result.broken]
    assert (broken - X[result.broken]).abs().amax() <= epsilon + 1e-6 and broken.min() >= 0 and broken.max() <= 1
    assert (model(broken).argmax(1) != Y[result.broken]).all()
    assert torch.equal(result.examples[~result.broken], X[~result.broken])


def test_more_queries_and_a_larger_radius_break_more() -> None:
    model = undefended()
    few, many, wide = run(model, 8 / 255, 100), run(model, 8 / 255, 800), run(model, 32 / 255, 100)
    assert few.broken.sum() < many.broken.sum() and few.broken.sum() < wide.broken.sum()
    assert (many.broken | ~few.broken).all()


def test_number_of_queries_is_limited() -> None:
    decisions = Decisions(toy("relu"))
    run(decisions, 0.001, 50)
    assert decisions.queries == len(X) * 51


def test_an_example_does_not_depend_on_the_rest_of_the_batch() -> None:
    model = undefended()
    full, subset = run(model, 8 / 255, 200), run(model, 8 / 255, 200, X[4:11], Y[4:11])
    assert torch.equal(full.broken[4:11], subset.broken) and torch.equal(full.examples[4:11], subset.examples)


def test_small_images_with_one_channel() -> None:
    class Brightness(nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            mean = batch.flatten(1).mean(1)
            return torch.stack([0.5 - mean, mean - 0.5], 1)

    x = torch.full((2, 1, 8, 8), 0.45)
    result = run(Brightness(), 0.1, 60, x, torch.zeros(2, dtype=torch.int64))
    assert result.broken.all()
