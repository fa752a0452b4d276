from __future__ import annotations

import random
import sys

import numpy as np
import pytest
import torch

from harness.randomness import isolated


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(1))


def test_random_generators_are_restored():
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    draw()
    expected = [draw(), draw()]
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    draw()
    with isolated(5):
        draw()
    first = draw()
    with pytest.raises(RuntimeError, match="inside"), isolated(6):
        torch.manual_seed(0)
        raise RuntimeError("inside")
    assert [first, draw()] == expected


@pytest.mark.parametrize("seed", [0, 7, 2**40 + 7, 2**64 - 1])
def test_the_seed_determines_the_random_numbers(seed):
    with isolated(seed):
        first = draw()
    with isolated(seed):
        repeated = draw()
    with isolated(seed ^ 1):
        different = draw()
    assert first == repeated
    assert all(a != b for a, b in zip(first, different, strict=True))


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_beyond_64_bits_is_an_error(seed):
    with pytest.raises(ValueError, match="64-bit"), isolated(seed):
        pass


def test_the_trace_function_is_restored():
    before = sys.gettrace()

    def trace(frame, event, argument):
        return None

    try:
        sys.settrace(trace)
        with isolated(0):
            sys.settrace(None)
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)
