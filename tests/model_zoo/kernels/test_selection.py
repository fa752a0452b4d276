"""Tests of the selection of the largest scores over several steps against a stable sort, and of gradients of scores against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model_zoo.layers.pruned_binary import PrunedBinaryConv2d, top_mask

pytestmark = pytest.mark.needs_numba


def reference(scores, kept):
    """Return the positions of the largest magnitudes; ties are resolved by position, and NaN comes last."""
    magnitudes = np.where(np.isnan(scores), -1.0, np.abs(scores))
    return np.sort(np.argsort(-magnitudes, kind="stable")[:kept])


def select(selection, scores, kept):
    positions = selection.largest(np.asarray(scores, np.float32), kept)
    assert positions.dtype == np.int64 and len(positions) == kept
    return positions


@pytest.mark.parametrize("kept", [1, 2, 37, 999, 1000])
def test_changing_scores_are_selected_correctly_at_every_step(kept):
    from model_zoo.kernels.selection import Selection

    generator, selection = np.random.default_rng(0), Selection()
    scores = generator.uniform(-0.01, 0.01, 1000).astype(np.float32)
    for step in range(30):
        np.testing.assert_array_equal(select(selection, scores, kept), reference(scores, kept))
        expected = torch.from_numpy(scores)
        mask = np.zeros(1000, np.float32)
        mask[reference(scores, kept)] = 1.0
        assert np.array_equal(top_mask(expected, kept).numpy(), mask)
        # Small steps, then larger ones; every seventh step scales all scores below or above the bound.
        scores = scores + generator.normal(0.0, 1e-4 * 2.0 ** (step % 10), 1000).astype(np.float32)
        if step % 7 == 6:
            scores *= np.float32(1e-3 if step % 2 else 1e3)


@pytest.mark.parametrize("kept", [1, 3, 5, 8])
def test_ties_are_resolved_by_position(kept):
    from model_zoo.kernels.selection import Selection

    selection = Selection()
    for scores in ([1, -1, 2, 1, -1, 0, 1, 1], [0, 0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1], [-0.0, 0.0, 1, 0, 0, 0, 0, 2]):
        for _ in range(2):  # The second selection uses the bound of the first.
            np.testing.assert_array_equal(select(selection, scores, kept), reference(np.asarray(scores, np.float32), kept))


@pytest.mark.parametrize("kept", [1, 2, 4, 6])
def test_nan_is_selected_last_and_infinity_first(kept):
    from model_zoo.kernels.selection import Selection

    selection = Selection()
    for scores in ([np.nan, 1, np.nan, -np.inf, 0, 2], [np.nan] * 6, [3, np.nan, 1, np.nan, 1, np.nan]):
        scores = np.asarray(scores, np.float32)
        for _ in range(2):
            np.testing.assert_array_equal(select(selection, scores, kept), reference(scores, kept))


def test_the_number_of_selected_scores_may_change():
    from model_zoo.kernels.selection import Selection

    scores, selection = np.random.default_rng(1).standard_normal(500).astype(np.float32), Selection()
    for kept in (500, 10, 400, 1, 20, 499):
        np.testing.assert_array_equal(select(selection, scores, kept), reference(scores, kept))


def test_gradients_of_scores_match_the_layer():
    from model_zoo.kernels.selection import by_scores

    torch.manual_seed(0)
    layer = PrunedBinaryConv2d(5, 4, 3, padding=1, weight_init="kaiming-normal")
    layer.set_kept(40)
    with torch.no_grad():
        layer.scores.view(-1)[:7] = torch.tensor([0.0, -0.0, 1.0, -1.0, 1e-30, -1e-30, 0.0])
    upstream = torch.randn(layer.scores.shape)
    layer.effective_weight().backward(upstream)
    gradient = upstream.clone()
    by_scores(*(array.numpy().reshape(-1) for array in (gradient, layer.slope.detach(), layer.scores.detach())))
    assert layer.scores.grad is not None
    np.testing.assert_array_equal(gradient.numpy(), layer.scores.grad.numpy())
