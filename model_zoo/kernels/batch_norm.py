"""Batch normalisation, cell by cell, of cells of sixteen images [channels, rows + 2, columns + 2, 16] with a border of zeros.

The caller combines the sums and statistics of the cells, in the order of the cells. Loops run over contiguous slices (rows of positions and
images) because the compiler vectorises those, but not loops that index into more dimensions.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from model_zoo.kernels.convolve import LANES
from model_zoo.kernels.weight_gradient import copy_channel

# Sums may be reordered, but infinities and NaN keep their meaning.
_REORDER = {"reassoc", "contract", "nsz"}

# Factor of the gradient in `backward_sums`: one, the ReLU's slope by the sign of the normalised value, or by that of the output.
LINEAR, RELU_OF_NORM, RELU_OF_OUTPUT = 0, 1, 2


@njit(cache=True, nogil=True, inline="always")
def _row(value, channel, row):  # type: ignore[no-untyped-def]
    """Return a row of a channel without its border, [columns * 16]."""
    return value[channel, row].reshape(-1)[LANES:-LANES]


@njit(cache=True, nogil=True, fastmath=_REORDER)
def moments(z, sums):  # type: ignore[no-untyped-def]
    """Write the mean of every channel and the sum of squared deviations from it into sums, float64 [channels, 2].

    Sums are taken about one of the channel's values, because sums about zero would cancel if a channel is nearly constant.
    """
    zero = np.float32(0.0)
    count = (z.shape[1] - 2) * (z.shape[2] - 2) * LANES
    for c in range(z.shape[0]):
        pivot = z[c, 1, 1, 0]
        total = squares = np.float64(0.0)
        for y in range(1, z.shape[1] - 1):
            values = _row(z, c, y)
            row_total = row_squares = zero
            for k in range(values.shape[0]):
                deviation = values[k] - pivot
                row_total += deviation
                row_squares += deviation * deviation
            total += row_total
            squares += row_squares
        sums[c, 0], sums[c, 1] = pivot + total / count, squares - total * total / count


@njit(cache=True, nogil=True)
def normalise(z, scale, shift, residual, relu, out, rows, parts, begin, width, stride):  # type: ignore[no-untyped-def]
    """Write scale * z + shift + residual into `out`, after a ReLU if `relu`, and its channels into the matrices of an operand.

    Parameters
    ----------
    scale, shift : np.ndarray
        float32 [channels].
    residual : np.ndarray
        Empty, or of z's shape.
    rows : np.ndarray
        int64 [channels]: row of each channel in the matrices, -1 for none.
    parts, begin, width, stride
        See `weight_gradient.copy_channel`.
    """
    zero = np.float32(0.0)
    for c in range(z.shape[0]):
        a, b = scale[c], shift[c]
        for y in range(1, z.shape[1] - 1):
            values, written = _row(z, c, y), _row(out, c, y)
            for k in range(values.shape[0]):
                written[k] = values[k] * a + b
            if residual.shape[0]:
                added = _row(residual, c, y)
                for k in range(values.shape[0]):
                    written[k] += added[k]
            if relu:
                for k in range(values.shape[0]):
                    written[k] = max(written[k], zero)
        if rows[c] >= 0:
            copy_channel(out[c], parts, rows[c], begin, width, stride)


@njit(cache=True, nogil=True, fastmath=_REORDER)
def backward_sums(g, z, out, slope, scale, shift, about, sums):  # type: ignore[no-untyped-def]
    """Multiply the gradient g by the ReLU's slope, in place, and write the channel sums of g and of g * (z - about).

    `about` is float32 [channels], close to the channel's mean so that the sums do not cancel; `sums` is float64 [channels, 2].
    """
    zero = np.float32(0.0)
    for c in range(z.shape[0]):
        a, b, middle = scale[c], shift[c], about[c]
        total = products = np.float64(0.0)
        for y in range(1, z.shape[1] - 1):
            gradient, values = _row(g, c, y), _row(z, c, y)
            if slope == RELU_OF_NORM:
                for k in range(values.shape[0]):
                    gradient[k] = gradient[k] if values[k] * a + b > zero else zero
            elif slope == RELU_OF_OUTPUT:
                written = _row(out, c, y)
                for k in range(values.shape[0]):
                    gradient[k] = gradient[k] if written[k] > zero else zero
            row_total = row_products = zero
            for k in range(values.shape[0]):
                row_total += gradient[k]
                row_products += gradient[k] * (values[k] - middle)
            total += row_total
            products += row_products
        sums[c, 0], sums[c, 1] = total, products


@njit(cache=True, nogil=True)
def backward(g, z, by_g, by_z, constant, dz, parts, begin, width, stride):  # type: ignore[no-untyped-def]
    """Write by_g * g + by_z * z + constant, the gradient with respect to the norm's input, into `dz` and an operand.

    The three factors are float32 [channels]; the other arguments are those of `normalise`.
    """
    for c in range(z.shape[0]):
        p, q, r = by_g[c], by_z[c], constant[c]
        for y in range(1, z.shape[1] - 1):
            gradient, values, written = _row(g, c, y), _row(z, c, y), _row(dz, c, y)
            for k in range(values.shape[0]):
                written[k] = p * gradient[k] + q * values[k] + r
        copy_channel(dz[c], parts, c, begin, width, stride)


@njit(cache=True, nogil=True)
def spread_mean(pooled, value):  # type: ignore[no-untyped-def]
    """Write into `value` [channels, rows + 2, columns + 2, 16] its gradient, from that of its mean over positions [channels, 3, 3, 16]."""
    channels, rows, columns, _ = value.shape
    share = np.float32(1.0 / ((rows - 2) * (columns - 2)))
    for c in range(channels):
        mean = pooled[c, 1, 1] * share
        for y in range(1, rows - 1):
            for x in range(1, columns - 1):
                value[c, y, x] = mean
