"""Tests of the convolution kernels, compared with PyTorch's dense convolution in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

pytestmark = pytest.mark.needs_numba

# Rows, columns, kernel, stride, padding.
LAYERS = [
    (32, 32, 3, 1, 1),
    (16, 16, 3, 2, 1),
    (8, 8, 3, 1, 1),
    (4, 4, 3, 1, 1),
    (2, 2, 3, 1, 1),
    (1, 1, 1, 1, 0),
    (8, 8, 1, 2, 0),
    (16, 16, 1, 1, 0),
    (9, 13, 3, 1, 1),
    (9, 11, 3, 2, 1),
    (7, 5, 1, 2, 0),
]


def store(values, shape):
    """Return values [lanes, C, H, W] in the layout of the kernels."""
    stored = np.zeros(shape.stored, np.float32)
    stored[:-1, 1:-1, 1:-1] = values.transpose(1, 2, 3, 0)
    stored[-1, 1:-1, 1:-1] = 1.0
    return stored


def random_signs(inputs, outputs, kernel, density, seed=0):
    generator = np.random.default_rng(seed)
    kept = generator.random((outputs, inputs, kernel, kernel)) < density
    return np.where(kept, generator.choice([-1.0, 1.0], kept.shape), 0.0)


def run(taps, source, target, residual=None, mask=None):
    from model_zoo.kernels.convolve import convolve

    unused, no_mask = np.zeros(0, np.float32), np.zeros(0, np.uint16)
    convolve(
        source.reshape(-1), target.reshape(-1), unused if residual is None else residual.reshape(-1), no_mask if mask is None else mask,
        taps.bias, taps.offsets, taps.weights, taps.starts, taps.channels, taps.shape, taps.at,
    )  # fmt: skip
    return target[:-1, 1:-1, 1:-1].transpose(3, 0, 1, 2)


@pytest.mark.parametrize("density", [0.0, 0.05, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("lanes", [16, 8])
def test_forward_and_gradient_match_a_dense_convolution(lanes, layer, density):
    from model_zoo.kernels.convolve import ADD, MASKED, RELU
    from model_zoo.kernels.taps import Shape, backward_taps, forward_taps

    rows, columns, kernel, stride, padding = layer
    inputs, outputs = 37, 10
    weight, generator = random_signs(inputs, outputs, kernel, density), np.random.default_rng(1)
    x = generator.standard_normal((lanes, inputs, rows, columns)).astype(np.float32)
    bias = generator.standard_normal(outputs)
    ones = generator.standard_normal((outputs, kernel, kernel))
    point = torch.from_numpy(x).double().requires_grad_(True)
    expected = F.conv2d(point, torch.from_numpy(weight), torch.from_numpy(bias), stride, padding)
    expected = expected + F.conv2d(torch.ones_like(point[:, :1]), torch.from_numpy(ones)[:, None], None, stride, padding)
    residual = generator.standard_normal(expected.shape).astype(np.float32)
    expected = F.relu(expected + torch.from_numpy(residual))
    source, target = Shape(inputs, rows, columns, lanes), Shape(outputs, *expected.shape[2:], lanes)

    mask = np.zeros(expected[0].numel(), np.uint16)
    taps = forward_taps(weight, ones, bias, stride, padding, source, target, np.arange(outputs), RELU)
    out = store(np.full(expected.shape, 7.0, np.float32), target)
    actual = run(taps, store(x, source), out, store(residual, target), mask)
    np.testing.assert_allclose(actual, expected.detach().numpy(), atol=1e-4)
    assert not out[:, 0].any() and not out[:, :, 0].any() and not out[:, -1].any() and not out[:, :, -1].any()
    bits = ((mask.reshape(expected.shape[1:])[None] >> np.arange(16)[:, None, None, None]) & 1).astype(bool)
    assert (bits[:lanes] == (actual > 0)).all()
    assert not bits[lanes:].any()

    upstream = generator.standard_normal(expected.shape).astype(np.float32)
    (gradient,) = torch.autograd.grad(
        F.conv2d(point, torch.from_numpy(weight), None, stride, padding), point, torch.from_numpy(upstream).double()
    )
    addend = generator.standard_normal(x.shape).astype(np.float32)
    mask_bits = generator.integers(0, 2**16, x[0].size).astype(np.uint16)
    is_passed = ((mask_bits.reshape(x.shape[1:])[None] >> np.arange(lanes)[:, None, None, None]) & 1).astype(bool)
    for end, reference in ((ADD, gradient.numpy() + addend), (MASKED, np.where(is_passed, gradient.numpy() + addend, 0.0))):
        input_gradient = store(np.full(x.shape, 7.0, np.float32), source)
        for part in backward_taps(weight, stride, padding, source, target, end):
            run(part, store(upstream, target), input_gradient, store(addend, source), mask_bits if end == MASKED else None)
        np.testing.assert_allclose(input_gradient[:-1, 1:-1, 1:-1].transpose(3, 0, 1, 2), reference, atol=1e-4)


def test_only_the_requested_channels_are_written():
    from model_zoo.kernels.convolve import ADD
    from model_zoo.kernels.taps import Shape, forward_taps

    shape = Shape(6, 8, 8)
    taps = forward_taps(random_signs(6, 6, 3, 0.3), None, np.ones(6), 1, 1, shape, shape, np.array([1, 4]), ADD)
    actual = run(taps, store(np.zeros((16, 6, 8, 8)), shape), store(np.full((16, 6, 8, 8), 7.0), shape))
    assert [bool((actual[:, channel] == 7.0).all()) for channel in range(6)] == [True, False, True, True, False, True]


def test_tiles_depend_on_density_and_group_length():
    from model_zoo.kernels.convolve import ADD, DENSE, SINGLE, SPARSE
    from model_zoo.kernels.taps import Shape, forward_taps

    def taps(density, size):
        shape = Shape(64, size, size)
        return forward_taps(random_signs(64, 64, 3, density), None, np.zeros(64), 1, 1, shape, shape, np.arange(64), ADD)

    assert tuple(taps(0.9, 32).shape[2:5]) == DENSE
    assert tuple(taps(0.5, 32).shape[2:5]) == SPARSE[0]
    assert tuple(taps(0.5, 4).shape[2:5]) == SPARSE[1]
    assert tuple(taps(0.5, 2).shape[2:5]) == SINGLE
    assert [len(taps(density, 32).starts) for density in (0.9, 0.5, 0.13, 0.01)] == [1, 4, 4, 1]
