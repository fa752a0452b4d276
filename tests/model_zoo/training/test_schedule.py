"""Tests of the learning rate: warm-up, cosine, milestones, one cycle, and the per-epoch rate of the official code."""

import math

import pytest

from model_zoo.training.recipe import Optimiser
from model_zoo.training.schedule import learning_rate


def test_the_cosine_schedule_warms_up_and_ends_at_zero() -> None:
    options = Optimiser(kind="sgd", learning_rate=1.0, epochs=10, batch=8, warmup=2.0)
    assert learning_rate(options, 0.0) < 0.01
    assert learning_rate(options, 2.0) == 1.0
    assert learning_rate(options, 6.0) == pytest.approx(0.5)
    assert learning_rate(options, 10.0) == pytest.approx(0.0)


def test_the_per_epoch_rate_is_the_official_cosine_of_whole_epochs() -> None:
    options = Optimiser(kind="sgd", learning_rate=0.1, epochs=400, batch=256, per_epoch=True)
    for epoch in (0, 1, 123, 399):
        expected = 0.1 * (1 + math.cos(math.pi * epoch / 400)) / 2
        assert learning_rate(options, epoch) == learning_rate(options, epoch + 0.99) == pytest.approx(expected)


def test_milestones_divide_the_rate() -> None:
    options = Optimiser(kind="sgd", learning_rate=0.1, epochs=400, batch=512, milestones=[200, 300])
    assert [round(learning_rate(options, epoch), 6) for epoch in (0, 199.9, 200, 299, 300, 399)] == [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]


def test_one_cycle_is_a_triangle() -> None:
    options = Optimiser(kind="sgd", learning_rate=0.2, epochs=10, batch=128, warmup=4.0, schedule="one-cycle")
    rates = [learning_rate(options, epoch) for epoch in (0, 1, 2, 4, 7, 9.5, 10)]
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.2, 0.1, 0.2 / 12, 0.0])
    down = Optimiser(kind="sgd", learning_rate=0.2, epochs=10, batch=128, schedule="one-cycle")
    assert [learning_rate(down, epoch) for epoch in (0, 5, 10)] == pytest.approx([0.2, 0.1, 0.0])
