"""Tests that float16 cells compute the same as float32 cells, to three digits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.model_zoo.kernels.test_convolve import LAYERS, random_signs

pytestmark = pytest.mark.needs_numba


@pytest.fixture(autouse=True)
def _float16():
    from model_zoo.kernels.convolve import computes_float16

    if not computes_float16():
        pytest.skip("this processor has no vector instructions for float16 numbers")


def to_cell(values, shape):
    """Return values [32, C, H, W] as a float16 cell."""
    cell = np.zeros(shape.stored, np.float16)
    cell[:-1, 1:-1, 1:-1] = values.transpose(1, 2, 3, 0)
    return cell.view(np.uint16)


def from_cell(cell):
    return cell.view(np.float16)[:-1, 1:-1, 1:-1].transpose(3, 0, 1, 2).astype(np.float32)


def run(taps, source, target, residual, mask):
    from model_zoo.kernels.convolve import convolve

    convolve(
        source.reshape(-1), target.reshape(-1), residual.reshape(-1), mask,
        taps.bias, taps.offsets, taps.weights, taps.starts, taps.channels, taps.shape, taps.at,
    )  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS)
def test_forward_and_gradient_match_a_dense_convolution(layer):
    from model_zoo.kernels.convolve import MASKED, RELU, SHORT
    from model_zoo.kernels.live_taps import Entries, empty_taps, fill_taps
    from model_zoo.kernels.taps import Shape, backward_passes, forward_pass

    rows, columns, kernel, stride, padding = layer
    inputs, outputs = 37, 10
    weight, generator = random_signs(inputs, outputs, kernel, 0.1).astype(np.float32), np.random.default_rng(1)
    scale = generator.uniform(0.1, 0.5, outputs).astype(np.float32)
    x = generator.standard_normal((SHORT, inputs, rows, columns)).astype(np.float32)
    point = torch.from_numpy(x).double().requires_grad_(True)
    expected = F.conv2d(point, torch.from_numpy(weight * scale[:, None, None, None]).double(), None, stride, padding)
    residual = generator.standard_normal(expected.shape).astype(np.float32)
    source, target = Shape(inputs, rows, columns, SHORT), Shape(outputs, *expected.shape[2:], SHORT)
    entries = Entries.of(weight)

    geometry = forward_pass(kernel, stride, padding, source, target, RELU)
    taps = empty_taps(geometry, outputs)
    fill_taps(taps, geometry, False, entries, scale)
    out, mask = to_cell(np.full(expected.shape, 7.0), target), np.zeros(expected[0].numel(), np.uint32)
    run(taps, to_cell(x, source), out, to_cell(residual, target), mask)
    reference = F.relu(expected.detach() + torch.from_numpy(residual)).numpy()
    np.testing.assert_allclose(from_cell(out), reference, atol=4e-2)
    bits = ((mask.reshape(expected.shape[1:])[None] >> np.arange(SHORT, dtype=np.uint32)[:, None, None, None]) & 1).astype(bool)
    assert (bits == (from_cell(out) > 0)).all()

    by_output = generator.standard_normal(expected.shape).astype(np.float32)
    (gradient,) = torch.autograd.grad(expected, point, torch.from_numpy(by_output).double())
    addend = generator.standard_normal(x.shape).astype(np.float32)
    mask_bits = generator.integers(0, 2**32, x[0].size, dtype=np.uint64).astype(np.uint32)
    is_passed = ((mask_bits.reshape(x.shape[1:])[None] >> np.arange(SHORT, dtype=np.uint32)[:, None, None, None]) & 1).astype(bool)
    input_gradient = to_cell(np.full(x.shape, 7.0), source)
    for backward_geometry in backward_passes(kernel, stride, padding, source, target, MASKED):
        taps = empty_taps(backward_geometry, inputs)
        fill_taps(taps, backward_geometry, True, entries, scale)
        run(taps, to_cell(by_output, target), input_gradient, to_cell(addend, source), mask_bits)
    np.testing.assert_allclose(from_cell(input_gradient), np.where(is_passed, gradient.numpy() + addend, 0.0), atol=4e-2)


def test_packing_and_pooling_with_their_gradients():
    from model_zoo.kernels import short_cells

    generator = np.random.default_rng(0)
    images = generator.random((20, 3, 6, 5)).astype(np.float32)
    mean, deviation = np.array([0.4, 0.5, 0.6], np.float32), np.array([0.2, 0.25, 0.3], np.float32)
    cell = np.full((4, 8, 7, 32), 0x3C00, np.uint16)
    short_cells.pack(images, cell, mean, deviation)
    reference = (images - mean[:, None, None]) / deviation[:, None, None]
    np.testing.assert_allclose(from_cell(cell)[:20], reference, atol=2e-3)
    assert not from_cell(cell)[20:].any()

    pooled = np.zeros((4, 3, 3, 32), np.uint16)
    short_cells.average(cell, pooled, 3)
    np.testing.assert_allclose(from_cell(pooled)[:20, :, 0, 0], reference.mean((2, 3)), atol=2e-3)

    mask = generator.integers(0, 2**32, 3 * 6 * 5, dtype=np.uint64).astype(np.uint32)
    short_cells.spread(pooled, cell, mask, 3)
    is_passed = ((mask.reshape(3, 6, 5)[None] >> np.arange(32, dtype=np.uint32)[:, None, None, None]) & 1).astype(bool)
    np.testing.assert_allclose(
        from_cell(cell)[:20], np.where(is_passed[:20], reference.mean((2, 3))[:, :, None, None] / 30, 0.0), atol=2e-3
    )

    short_cells.numbers(cell)[0, 1, 1, 0] = np.inf
    gradient = np.empty_like(images)
    short_cells.unpack(cell, gradient, deviation)
    assert gradient[0, 0, 0, 0] == 0.0 and np.isfinite(gradient).all()
    np.testing.assert_allclose(gradient[1:], from_cell(cell)[1:20] / deviation[:, None, None], atol=1e-6)


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e6])
def test_logits_and_gradients_match_float32_cells(size):
    from model_zoo.kernels.convolve import LANES, SHORT
    from model_zoo.training.building import build_model
    from model_zoo.training.engine import DenseEngine
    from model_zoo.training.sharing import Share
    from model_zoo.training.sparse_engine import SparseEngine
    from tests.model_zoo.families.runs import tiny

    model = build_model(tiny("pruned-binary"))
    engine = SparseEngine(model, DenseEngine(model, Share(), 16))
    images = torch.rand(40, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    engine.trained(images[:32])
    results = []
    for lanes in (LANES, SHORT):
        point = images.clone().requires_grad_(True)
        logits = engine._frozen(point, engine._statistics, lanes)
        (gradient,) = torch.autograd.grad((logits * torch.linspace(-1, 1, logits.numel()).view_as(logits)).sum() * size, point)
        results.append((logits.detach(), gradient.flatten(1) / size))
    torch.testing.assert_close(results[1][0], results[0][0], atol=0.05, rtol=0.02)
    cosines = F.cosine_similarity(results[0][1], results[1][1])
    assert cosines.median() > 0.995 and cosines.min() > 0.95
