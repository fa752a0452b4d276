"""Tests of the gradient of a convolution's weight, compared with autograd in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.model_zoo.kernels.cells import difference, to_cells
from tests.model_zoo.kernels.test_convolve import LAYERS

pytestmark = pytest.mark.needs_numba

TYPES = [torch.float32, torch.bfloat16]


def rows_of(live, channels):
    """Return the row of each channel in the matrices, -1 for excluded channels."""
    rows = np.full(channels, -1, np.int64)
    rows[list(live)] = np.arange(len(live))
    return rows


def gradients(layer, dtype, cells, live, inputs=7, outputs=6):
    """Return the gradients by the kernel and by autograd for random values that are zero in channels outside `live`."""
    from model_zoo.kernels.taps import Shape
    from model_zoo.kernels.weight_gradient import Operand, weight_gradient

    rows, columns, kernel, stride, padding = layer
    generator = torch.Generator().manual_seed(2)
    values = torch.randn((16 * cells, inputs, rows, columns), generator=generator)
    values[:, [channel for channel in range(inputs) if channel not in live]] = 0.0
    weight = torch.zeros((outputs, inputs, kernel, kernel), dtype=torch.float64, requires_grad=True)
    height, width = ((size + 2 * padding - kernel) // stride + 1 for size in (rows, columns))
    upstream = torch.randn((16 * cells, outputs, height, width), generator=generator)
    # The kernel multiplies rounded numbers, and so does the reference.
    exact = F.conv2d(values.to(dtype).double(), weight, None, stride, padding)
    (expected,) = torch.autograd.grad((exact * upstream.to(dtype).double()).sum(), weight)

    operand = Operand(Shape(inputs, rows, columns), cells, stride, dtype)
    by_output = Operand(Shape(outputs, height, width), cells, 1, dtype)
    # Write twice: values of an earlier batch must not matter.
    for attempt in range(2):
        for cell, (cell_values, cell_gradients) in enumerate(zip(to_cells(values), to_cells(upstream), strict=True)):
            operand.write(cell_values if attempt else cell_values + 3.0, cell, rows_of(live if attempt else range(inputs), inputs))
            by_output.write(cell_gradients if attempt else cell_gradients - 2.0, cell, np.arange(outputs))
    actual = weight_gradient(operand, by_output, kernel, padding, inputs, np.asarray(live, np.int64))
    return actual, expected


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("cells", [1, 2, 3])
def test_weight_gradient_matches_a_dense_convolution(layer, dtype, cells):
    actual, expected = gradients(layer, dtype, cells, range(7))
    assert actual.dtype == torch.float32 and actual.is_contiguous()
    # Products of bfloat16 numbers are rounded an additional time.
    assert difference(actual, expected) < (1e-5 if dtype == torch.float32 else 4e-3)


@pytest.mark.parametrize("live", [[0], [6], [1, 2, 5], []])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("layer", [(9, 11, 3, 2, 1), (5, 4, 3, 1, 1), (7, 5, 1, 2, 0)])
def test_excluded_channels_have_no_gradient(layer, dtype, live):
    actual, expected = gradients(layer, dtype, 2, live)
    assert difference(actual, expected) < (1e-5 if dtype == torch.float32 else 4e-3)
    assert not actual[:, [channel for channel in range(7) if channel not in live]].any()


@pytest.mark.parametrize("stride", [1, 2])
def test_bfloat16_rounding_matches_pytorch(stride):
    from model_zoo.kernels.taps import Shape
    from model_zoo.kernels.weight_gradient import Operand

    rows, columns = 5, 4
    generator = np.random.default_rng(0)
    bits = generator.integers(0, 2**32, (16, 2, rows, columns), dtype=np.uint32)
    # Ties, and the largest finite numbers, which are rounded to infinity.
    bits[0], bits[1], bits[2] = bits[0] & 0xFFFF0000 | 0x8000, bits[1] & 0xFFFF0000 | 0x7FFF, 0x7F7FFFFF
    values = bits.view(np.float32)
    values[np.isnan(values)] = np.float32(1.0) / 3
    values[3, 0, 0] = np.inf, -np.inf, 0.0, -0.0
    operand = Operand(Shape(2, rows, columns), 1, stride, torch.bfloat16)
    operand.write(to_cells(values)[0], 0, np.arange(2))
    geometry = operand.geometry
    for row in range(stride):
        for column in range(stride):
            part = torch.from_numpy(values[:, :, row::stride, column::stride]).to(torch.bfloat16)
            matrix = operand.matrices[row * stride + column][:, geometry.guard : geometry.guard + geometry.length]
            grid = matrix.reshape(2, geometry.rows + 1, geometry.columns + 1, 32)[:, : part.shape[2], : part.shape[3], :16]
            assert torch.equal(grid.permute(3, 0, 1, 2), part)


@pytest.mark.parametrize("dtype", TYPES)
def test_non_finite_values_propagate(dtype):
    from model_zoo.kernels.taps import Shape
    from model_zoo.kernels.weight_gradient import Operand, weight_gradient

    values = np.ones((16, 2, 3, 3), np.float32)
    values[0, 1, 1, 1] = np.nan
    operand, by_output = (Operand(Shape(2, 3, 3), 1, 1, dtype) for _ in range(2))
    operand.write(to_cells(values)[0], 0, np.arange(2))
    by_output.write(to_cells(np.ones_like(values))[0], 0, np.arange(2))
    actual = weight_gradient(operand, by_output, 3, 1, 2, np.arange(2))
    assert actual[:, 0].isfinite().all() and actual[:, 1].isnan().all()
