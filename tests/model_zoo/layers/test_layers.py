"""Tests of the binary layers: sign of zero, exact counts, and gradients."""

import pytest
import torch
from torch.nn import functional as F

from model_zoo.layers.binary_connect import BinaryConnectConv2d
from model_zoo.layers.pruned_binary import PrunedBinaryConv2d, keep_count, top_mask
from model_zoo.layers.signs import sign


def test_the_sign_of_zero_is_plus_one() -> None:
    assert sign(torch.tensor([-2.0, -0.0, 0.0, 3.0])).tolist() == [-1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(("weights", "keep_ratio", "kept"), [(100, 0.1, 10), (1728, 1.0, 1728), (10, 0.01, 1), (7, 0.5, 4)])
def test_keep_count_is_n_minus_the_floor_of_the_pruned_number(weights: int, keep_ratio: float, kept: int) -> None:
    assert keep_count(weights, keep_ratio) == kept


def test_the_mask_keeps_the_largest_magnitudes_of_both_signs() -> None:
    scores = torch.tensor([[[[0.1]], [[-5.0]]], [[[0.3]], [[-0.2]]]])
    assert top_mask(scores, 2).flatten().tolist() == [0.0, 1.0, 1.0, 0.0]


def test_the_mask_count_is_exact_with_ties() -> None:
    assert int(top_mask(torch.ones(4, 4, 3, 3), 37).sum()) == 37


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_the_mask_does_not_depend_on_the_memory_format(memory: torch.memory_format) -> None:
    scores = torch.randn(8, 6, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(top_mask(scores.contiguous(memory_format=memory), 50), top_mask(scores, 50))


def layer(kept: int = 20) -> PrunedBinaryConv2d:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        conv = PrunedBinaryConv2d(3, 5, 3, padding=1)
    conv.set_kept(kept)
    return conv


def test_effective_weights_are_ternary_with_the_exact_number_of_nonzeros() -> None:
    weight = layer(20).effective_weight()
    assert set(weight.unique().tolist()) == {-1.0, 0.0, 1.0}
    assert int(weight.count_nonzero()) == 20


def test_scores_start_uniform_within_their_scale() -> None:
    scores = PrunedBinaryConv2d(64, 64, 3, score_scale=0.01).scores
    assert float(scores.detach().abs().max()) <= 0.01
    assert float(scores.detach().std()) == pytest.approx(0.01 / 3**0.5, rel=0.05)


def test_scores_of_kept_and_pruned_weights_get_the_straight_through_gradient() -> None:
    pruned = layer()
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    pruned(images).square().sum().backward()
    weight = pruned.effective_weight().detach().requires_grad_(True)
    F.conv2d(images, weight, None, 1, 1).square().sum().backward()
    assert weight.grad is not None and pruned.scores.grad is not None
    expected = weight.grad * pruned.signs * torch.sign(pruned.scores.detach())
    assert torch.allclose(pruned.scores.grad, expected)
    assert bool((pruned.scores.grad[pruned.mask == 0] != 0).any())


def test_refresh_recomputes_the_mask_from_the_scores() -> None:
    pruned = layer(1)
    with torch.no_grad():
        pruned.scores.zero_()
        pruned.scores[2, 1, 0, 0] = -9.0
    pruned.refresh()
    assert pruned.effective_weight().nonzero().tolist() == [[2, 1, 0, 0]]


def test_keeping_no_weights_is_an_error() -> None:
    with pytest.raises(ValueError, match="cannot keep 0"):
        layer().set_kept(0)


def test_binary_connect_convolves_with_signs_and_passes_the_gradient_through() -> None:
    binary = BinaryConnectConv2d(3, 4, 3, padding=1)
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    binary(images).square().sum().backward()
    weight = sign(binary.latent.detach()).requires_grad_(True)
    F.conv2d(images, weight, None, 1, 1).square().sum().backward()
    assert set(binary.effective_weight().unique().tolist()) == {-1.0, 1.0}
    assert weight.grad is not None and binary.latent.grad is not None
    assert torch.allclose(binary.latent.grad, weight.grad)


def test_binary_connect_clamps_latent_weights_at_refresh() -> None:
    binary = BinaryConnectConv2d(1, 1, 1)
    with torch.no_grad():
        binary.latent.fill_(-3.0)
    binary.refresh()
    assert binary.latent.item() == -1.0
