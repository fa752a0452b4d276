"""Tests that refilled taps equal taps made from dense weights."""

from __future__ import annotations

import numpy as np
import pytest

from tests.model_zoo.kernels.test_convolve import LAYERS, random_signs

pytestmark = pytest.mark.needs_numba


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("density", [0.0, 0.02, 0.3])
def test_refilled_taps_match_those_of_dense_weights(layer, density):
    from model_zoo.kernels.convolve import ADD
    from model_zoo.kernels.live_taps import Entries, empty_taps, fill_taps
    from model_zoo.kernels.taps import Shape, backward_passes, backward_taps, forward_pass, forward_taps

    rows, columns, kernel, stride, padding = layer
    weight = random_signs(20, 12, kernel, density).astype(np.float32)
    scale = np.linspace(0.5, 2.0, 12).astype(np.float32)
    source = Shape(20, rows, columns)
    height, width = ((size + 2 * padding - kernel) // stride + 1 for size in (rows, columns))
    target = Shape(12, height, width)
    folded, entries = weight * scale[:, None, None, None], Entries.of(weight)
    assert len(entries.places) == np.count_nonzero(weight)

    passes = [(forward_pass(kernel, stride, padding, source, target, ADD), False, 12)]
    passes += [(backward_geometry, True, 20) for backward_geometry in backward_passes(kernel, stride, padding, source, target, ADD)]
    dense = [forward_taps(folded, None, np.zeros(12), stride, padding, source, target, np.arange(12), ADD)]
    dense += backward_taps(folded, stride, padding, source, target, ADD)
    for (geometry, backward, outputs), expected in zip(passes, dense, strict=True):
        taps = empty_taps(geometry, outputs)
        for attempt in range(2):  # The second filling must replace the first completely.
            fill_taps(taps, geometry, backward, entries, scale if attempt else -scale)
        np.testing.assert_array_equal(taps.at, expected.at)
        np.testing.assert_array_equal(taps.shape, expected.shape)
        # Groups depend on an estimated number of entries, so only the sums must agree.
        assert _sums(taps) == _sums(expected)


def _sums(taps):
    sums = set()
    for group in taps.starts:
        for channel, begin, end in zip(taps.channels, group[:-1], group[1:], strict=True):
            sums |= {(int(channel), int(taps.offsets[t]), round(float(taps.weights[t]), 5)) for t in range(begin, end)}
    return sums
