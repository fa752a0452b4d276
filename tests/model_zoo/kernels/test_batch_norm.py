"""Tests of batch normalisation in cells against PyTorch in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.model_zoo.kernels.cells import difference, from_cells, to_cells

pytestmark = pytest.mark.needs_numba

# Channels, rows, columns.
SHAPES = [(1, 1, 1), (10, 1, 1), (3, 5, 7), (4, 8, 8), (2, 9, 1)]
NONE = np.zeros((0, 0, 0, 0), np.float32)


def random_values(shape, cells=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((16 * cells, *shape), generator=generator) * 2.0 + 1.0


def has_empty_border(cells):
    return not (cells[:, :, [0, -1]].any() or cells[:, :, :, [0, -1]].any())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_moments_are_mean_and_squared_deviations_per_cell(shape, offset):
    from model_zoo.kernels.batch_norm import moments

    values = random_values(shape) + offset
    for cell, part in zip(to_cells(values), values.double().split(16), strict=True):
        sums = np.full((shape[0], 2), np.nan)
        moments(cell, sums)
        mean = part.mean((0, 2, 3), keepdim=True)
        np.testing.assert_allclose(sums[:, 0], mean.flatten().numpy(), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(sums[:, 1], (part - mean).square().sum((0, 2, 3)).numpy(), rtol=1e-5)


def test_a_constant_channel_has_zero_variance():
    from model_zoo.kernels.batch_norm import moments

    sums = np.zeros((3, 2))
    constants = torch.tensor([0.1, -7.3, 0.0]).view(1, 3, 1, 1)
    moments(to_cells(constants.expand(16, 3, 5, 6))[0], sums)
    assert sums[:, 0].tolist() == constants.flatten().double().tolist() and not sums[:, 1].any()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("residual", [False, True])
def test_normalise_scales_shifts_adds_and_rectifies(shape, relu, residual):
    from model_zoo.kernels.batch_norm import normalise
    from model_zoo.kernels.taps import Shape
    from model_zoo.kernels.weight_gradient import Operand

    values, added = random_values(shape), random_values(shape, seed=1)
    scale, shift = np.linspace(-2.0, 2.0, shape[0]).astype(np.float32), np.linspace(1.0, -1.0, shape[0]).astype(np.float32)
    cells, out = to_cells(values), np.zeros_like(to_cells(values))
    # The operand omits the last channel and has the rows of the others in order.
    rows = np.append(np.arange(shape[0] - 1), -1)
    operand, reference = (Operand(Shape(*shape), 2, 1, torch.float32) for _ in range(2))
    for cell, (z, added_cell, output) in enumerate(zip(cells, to_cells(added), out, strict=True)):
        normalise(z, scale, shift, added_cell if residual else NONE, relu, output, rows, operand.parts, *operand.place(cell))
        reference.write(output, cell, rows)
    assert torch.equal(operand.matrices[0], reference.matrices[0])
    assert shape[0] == 1 or operand.matrices[0][:-1].any()
    expected = values.double() * torch.from_numpy(scale).view(-1, 1, 1) + torch.from_numpy(shift).view(-1, 1, 1)
    expected = expected + added if residual else expected
    expected = F.relu(expected) if relu else expected
    np.testing.assert_allclose(from_cells(out), expected.numpy(), atol=1e-5)
    assert has_empty_border(out)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("slope", ["LINEAR", "RELU_OF_NORM", "RELU_OF_OUTPUT"])
def test_gradients_of_input_scale_and_shift_match_pytorch(shape, slope):
    from model_zoo.kernels import batch_norm
    from model_zoo.kernels.taps import Shape
    from model_zoo.kernels.weight_gradient import Operand

    values, upstream, added = (random_values(shape, seed=seed) for seed in range(3))
    channels, eps = shape[0], 1e-5
    z = values.double().requires_grad_(True)
    weight = torch.linspace(-2.0, 2.0, channels).double().requires_grad_(True)
    bias = torch.linspace(0.5, -0.5, channels).double().requires_grad_(True)
    out = F.batch_norm(z, None, None, weight, bias, training=True, eps=eps)
    out = out + added if slope == "RELU_OF_OUTPUT" else out
    out = out if slope == "LINEAR" else F.relu(out)
    expected = torch.autograd.grad((out * upstream).sum(), (z, weight, bias))

    mean, variance = (tensor.detach().numpy() for tensor in (z.mean((0, 2, 3)), z.var((0, 2, 3), unbiased=False)))
    inverse = 1.0 / np.sqrt(variance + eps)
    scale = weight.detach().numpy() * inverse
    shift = bias.detach().numpy() - mean * scale
    fold = scale.astype(np.float32), shift.astype(np.float32)
    cells, gradient = to_cells(values), to_cells(upstream)
    outputs, sums = to_cells(out.detach()), np.zeros((2, channels, 2))
    centre = mean.astype(np.float32) + np.float32(0.25)
    for cell in range(2):
        output = outputs[cell] if slope == "RELU_OF_OUTPUT" else NONE
        batch_norm.backward_sums(gradient[cell], cells[cell], output, getattr(batch_norm, slope), *fold, centre, sums[cell])
    rectified = upstream.numpy() if slope == "LINEAR" else upstream.numpy() * (out.detach().numpy() > 0)
    assert difference(from_cells(gradient), rectified) < 1e-6  # the kernel multiplies by the slope in place

    total, products = sums.sum(0).T
    by_weight = (products - (mean - centre) * total) * inverse
    assert difference(by_weight, expected[1]) < 1e-5
    assert difference(total, expected[2]) < 1e-5
    count = 32 * shape[1] * shape[2]
    by_z = -scale * inverse * by_weight / count
    factors = [tensor.astype(np.float32) for tensor in (scale, by_z, -scale * total / count - by_z * mean)]
    by_input = np.zeros_like(cells)
    operand, reference = (Operand(Shape(*shape), 2, 1, torch.float32) for _ in range(2))
    for cell in range(2):
        batch_norm.backward(gradient[cell], cells[cell], *factors, by_input[cell], operand.parts, *operand.place(cell))
        reference.write(by_input[cell], cell, np.arange(channels))
    assert torch.equal(operand.matrices[0], reference.matrices[0]) and operand.matrices[0].any()
    assert difference(from_cells(by_input), expected[0]) < 1e-5
    assert has_empty_border(by_input)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_of_a_mean_is_spread_over_all_positions(shape):
    from model_zoo.kernels.batch_norm import spread_mean

    values = random_values(shape).double().requires_grad_(True)
    upstream = random_values((shape[0], 1, 1), seed=1)
    (expected,) = torch.autograd.grad((values.mean((2, 3), keepdim=True) * upstream).sum(), values)
    out = np.zeros_like(to_cells(values.detach()))
    for pooled, output in zip(to_cells(upstream), out, strict=True):
        spread_mean(pooled, output)
    assert difference(from_cells(out), expected) < 1e-6
    assert has_empty_border(out)


def test_non_finite_values_propagate():
    from model_zoo.kernels.batch_norm import moments

    values = random_values((3, 4, 4), cells=1)
    values[3, 0, 1, 2], values[5, 1, 0, 0] = torch.nan, torch.inf
    sums = np.zeros((3, 2))
    moments(to_cells(values)[0], sums)
    assert np.isnan(sums[0]).all() and not np.isfinite(sums[1]).any() and np.isfinite(sums[2]).all()
