"""Tests that engine sparse computes the same logits, gradients, statistics and masks as the model."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from model_zoo.layers.pruned_binary import PrunedBinaryConv2d, top_mask
from model_zoo.training.inner_attack import input_gradients_only
from tests.model_zoo.kernels.cells import difference
from tests.model_zoo.training.sparse_cases import (
    FAMILIES,
    IMAGES,
    batch,
    engines,
    labels,
    logits_and_gradient,
    masked_recipe,
    named_gradients,
    numba,
    with_batch_statistics,
)


@numba
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("last", ["plain", "affine", "none"])
def test_gradients_are_within_one_per_cent_of_autograd(family: str, last: str) -> None:
    sparse, dense = engines(masked_recipe(family, last_batch_norm=last))
    actual, expected = named_gradients(sparse), named_gradients(dense)
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        if gradient.dim() == 4:
            assert difference(actual[name], gradient) < 0.01, name
        else:
            # Some gradients of batch-norm parameters vanish, such as that of a shift before another batch norm.
            assert difference(actual[name], gradient, 0.05 * len(gradient) ** 0.5) < 0.01, name


@numba
@pytest.mark.parametrize("architecture", ["cifar-resnet18", "cifar-resnet50"])
def test_gradients_of_deep_networks_are_within_one_per_cent_of_autograd(architecture: str) -> None:
    sparse, dense = engines(masked_recipe("pruned-binary", name=architecture))
    # Compare in float64, because float32 in PyTorch has an error of 2 % for such a deep untrained network.
    exact = copy.deepcopy(dense.model).double()
    for layer in exact.modules():
        if isinstance(layer, PrunedBinaryConv2d):
            layer.refresh()
    F.cross_entropy(exact(batch(0).double()), labels(0)).backward()
    actual = named_gradients(sparse)
    assert all(difference(actual[name], parameter.grad) < 0.01 for name, parameter in exact.named_parameters())


@numba
@pytest.mark.parametrize("family", FAMILIES)
def test_the_attacked_network_has_the_statistics_of_the_previous_batch(family: str) -> None:
    sparse, dense = engines(masked_recipe(family))
    sparse.trained(batch(0))
    reference = with_batch_statistics(dense.model, batch(0))  # type: ignore[arg-type]
    for images in (batch(1), batch(2)[:10]):
        with input_gradients_only(sparse.model):  # type: ignore[attr-defined]
            logits, gradient = logits_and_gradient(sparse.attacked, images)
        expected, by_images = logits_and_gradient(reference, images)
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
        assert difference(gradient, by_images) < 5e-3


@numba
def test_the_first_attack_uses_the_statistics_of_its_images_and_has_no_side_effects() -> None:
    sparse, dense = engines(masked_recipe("pruned-binary"))
    before = {name: tensor.clone() for name, tensor in sparse.model.state_dict().items()}  # type: ignore[attr-defined]
    expected, by_images = logits_and_gradient(with_batch_statistics(dense.model, batch(0)), batch(0))  # type: ignore[arg-type]
    logits, gradient = logits_and_gradient(sparse.attacked, batch(0))
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    assert difference(gradient, by_images) < 1e-3
    assert all(torch.equal(tensor, before[name]) for name, tensor in sparse.model.state_dict().items())  # type: ignore[attr-defined]


@numba
@pytest.mark.parametrize("family", FAMILIES)
def test_the_evaluated_network_equals_the_model_in_evaluation_mode(family: str) -> None:
    sparse, dense = engines(masked_recipe(family))
    for number in range(4):
        for engine in (sparse, dense):
            engine.trained(batch(number))
    reference = copy.deepcopy(dense.model).eval()
    for images in (IMAGES[:250], IMAGES[:7]):
        logits, gradient = logits_and_gradient(sparse.evaluated, images)
        expected, by_images = logits_and_gradient(reference, images)
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
        assert difference(gradient, by_images) < 5e-3
    sparse.model.eval()  # type: ignore[attr-defined]
    torch.testing.assert_close(sparse.attacked(IMAGES[:7]), expected, atol=1e-4, rtol=1e-4)


@numba
@pytest.mark.parametrize("momentum", [0.1, 0.5, None])
def test_running_statistics_are_updated_like_in_pytorch(momentum: float | None) -> None:
    sparse, dense = engines(masked_recipe("flying-bird"))
    norms = [[module for module in engine.model.modules() if isinstance(module, nn.BatchNorm2d)] for engine in (sparse, dense)]  # type: ignore[attr-defined]
    for norm in norms[0] + norms[1]:
        norm.momentum = momentum  # type: ignore[assignment]
    for number in range(4):
        with torch.set_grad_enabled(number % 2 == 0):
            for engine in (sparse, dense):
                engine.trained(batch(number))
        for sparse_norm, dense_norm in zip(*norms, strict=True):
            assert sparse_norm.num_batches_tracked == dense_norm.num_batches_tracked == number + 1
            torch.testing.assert_close(sparse_norm.running_mean, dense_norm.running_mean, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(sparse_norm.running_var, dense_norm.running_var, rtol=1e-4, atol=1e-5)


@numba
def test_a_pass_without_gradients_releases_its_tape() -> None:
    sparse, _ = engines(masked_recipe("pruned-binary"))
    for _ in range(3):
        with torch.no_grad():
            logits = sparse.trained(batch(0))
        assert not logits.requires_grad
        (passes,) = sparse._passes.values()  # type: ignore[attr-defined]
        assert len(passes._tapes) == 1


@numba
def test_a_tape_serves_one_backward_pass() -> None:
    sparse, _ = engines(masked_recipe("pruned-binary"))
    loss = F.cross_entropy(sparse.trained(batch(0)), labels(0))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


@numba
def test_a_backward_pass_after_a_change_of_weights_is_an_error() -> None:
    sparse, _ = engines(masked_recipe("pruned-binary"))
    sparse.trained(batch(0))
    point = batch(1).requires_grad_(True)
    attacked = sparse.attacked(point).sum()
    (before,) = torch.autograd.grad(attacked, point, retain_graph=True)
    sparse.attacked(batch(2))  # Weights and statistics are still the same.
    assert torch.equal(torch.autograd.grad(attacked, point, retain_graph=True)[0], before)
    sparse.evaluated(batch(2))
    with pytest.raises(RuntimeError, match="have changed since the forward pass"):
        torch.autograd.grad(attacked, point)


@numba
def test_two_training_passes_before_one_backward_pass() -> None:
    sparse, dense = engines(masked_recipe("pruned-binary"))
    gradients = []
    for engine in (sparse, dense):
        first, second = engine.trained(batch(0)), engine.trained(batch(1))
        loss = F.cross_entropy(first, labels(0)) + 6.0 * F.kl_div(F.log_softmax(second, 1), F.softmax(first, 1), reduction="batchmean")
        loss.backward()
        gradients.append({name: parameter.grad for name, parameter in engine.model.named_parameters()})  # type: ignore[attr-defined]
    assert all(difference(gradients[0][name], gradient) < 0.01 for name, gradient in gradients[1].items())


@numba
@pytest.mark.parametrize("family", ["pruned-binary", "rst", "biprop"])
def test_masks_are_those_of_the_largest_scores(family: str) -> None:
    sparse, _ = engines(masked_recipe(family))
    layers = [layer for layer in sparse.model.modules() if isinstance(layer, PrunedBinaryConv2d)]  # type: ignore[attr-defined]
    # The scores of this seed have no ties, because any of several equal scores may be kept.
    generator = torch.Generator().manual_seed(0)
    for step in range(4):
        with torch.no_grad():
            for layer in layers:
                layer.scores.add_(torch.randn(layer.scores.shape, generator=generator) * 10.0 ** -(step % 3))
        sparse.refresh()
        for layer in layers:
            assert torch.equal(layer.mask, top_mask(layer.scores, layer.kept))
            assert torch.equal(layer.effective_weight().detach(), layer.weights * layer.mask)
    with torch.no_grad():
        for layer in layers:
            layer.scores.copy_(layer.scores.mul(2.0).round())
    sparse.refresh()
    for layer in layers:
        # Any of several equal scores may be kept.
        kept, pruned = layer.scores.abs()[layer.mask > 0], layer.scores.abs()[layer.mask == 0]
        assert len(kept) == layer.kept and (not len(pruned) or kept.min() >= pruned.max())


@numba
@pytest.mark.parametrize("family", FAMILIES)
def test_results_follow_changed_weights(family: str) -> None:
    sparse, dense = engines(masked_recipe(family))
    for number in range(2):
        for engine in (sparse, dense):
            engine.trained(batch(number))
    values = torch.Generator().manual_seed(1)
    changed = {
        name: tensor + 0.1 * torch.randn(tensor.shape, generator=values) * tensor.abs().max()
        for name, tensor in dense.model.state_dict().items()
        if name.endswith(("scores", "weight", "bias"))
    }
    for engine in (sparse, dense):
        engine.model.load_state_dict({**engine.model.state_dict(), **changed})  # type: ignore[attr-defined]
        engine.refresh()
    expected, _ = logits_and_gradient(dense.evaluated, IMAGES[:20])
    torch.testing.assert_close(logits_and_gradient(sparse.evaluated, IMAGES[:20])[0], expected, atol=1e-3, rtol=1e-3)
    assert difference(sparse.trained(batch(3)).detach(), dense.trained(batch(3)).detach()) < 1e-3


@numba
def test_the_state_contains_the_statistics_of_the_previous_batch() -> None:
    chosen = masked_recipe("pruned-binary")
    sparse, restored = engines(chosen)[0], engines(chosen)[0]
    assert sparse.state() == {}
    sparse.trained(batch(0))
    restored.trained(batch(1))
    restored.restore(sparse.state())
    assert torch.equal(restored.attacked(batch(2)), sparse.attacked(batch(2)))
    restored.restore({})
    assert restored.state() == {}
