"""Tests of the kernels' passes in training mode, compared with autograd on the same network in float64."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from model_zoo.kernels.graph import Layer, UnsuitedError, trace
from tests.model_zoo.kernels.cells import difference, network

pytestmark = pytest.mark.needs_numba


def images(count=32, rows=9, columns=7, seed=0):
    return torch.rand((count, 3, rows, columns), generator=torch.Generator().manual_seed(seed))


def passes(model, count=32, rows=9, columns=7):
    """Return the passes through `model` by the kernels, and its batch norms by target value."""
    from model_zoo.kernels.batch_pass import BatchPass
    from model_zoo.kernels.graph import lower, normalisation
    from model_zoo.kernels.live_taps import Entries
    from model_zoo.kernels.schedule import value_shapes
    from model_zoo.kernels.statistics import Norm
    from model_zoo.kernels.taps import Shape

    layers = trace(model)
    shapes = value_shapes(lower(copy.deepcopy(model).eval()), Shape(3, rows, columns))
    batch = BatchPass(layers, shapes, *normalisation(model), count)
    convolutions = [layer for layer in layers if isinstance(layer, Layer)]
    batch.fill({layer.target: Entries.of(layer.convolution.weight.detach().numpy()) for layer in convolutions})
    return batch, {layer.target: Norm.of(layer.norm) for layer in convolutions}


def autograd_reference(model, x, upstream):
    """Return the logits, the convolved values and every layer with its gradients, by target value, computed by autograd in float64."""
    exact = copy.deepcopy(model).double()
    convolved = {}
    layers = [layer for layer in trace(exact) if isinstance(layer, Layer)]
    for layer in layers:
        layer.convolution.register_forward_hook(
            lambda module, inputs, out, target=layer.target: convolved.__setitem__(target, out.detach())
        )
    logits = exact(x.double())
    logits.backward(upstream.double())
    return SimpleNamespace(logits=logits.detach(), convolved=convolved, layers={layer.target: layer for layer in layers})


def check(batch, norms, model, x, tolerance):
    upstream = torch.randn((len(x), 10), generator=torch.Generator().manual_seed(9))
    reference = autograd_reference(model, x, upstream)
    logits, tape = batch.forward(x.numpy(), norms)
    assert difference(logits, reference.logits) < 1e-4
    for target, values in reference.convolved.items():
        statistics = tape.statistics[target]
        assert statistics.count == values[:, 0].numel()
        np.testing.assert_allclose(statistics.mean, values.mean((0, 2, 3)).numpy(), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(statistics.variance, values.var((0, 2, 3), unbiased=False).numpy(), rtol=1e-4, atol=1e-4)
    gradients = batch.backward(upstream.numpy(), tape)
    assert gradients.keys() == reference.layers.keys()
    # Some gradients vanish, such as that of a shift before another batch norm, so compare on the scale of the other layers.
    parameters = [layer.norm.weight.grad for layer in reference.layers.values() if getattr(layer.norm, "weight", None) is not None]
    floor = 0.1 * max([float(upstream.norm()), *(float(gradient.norm()) for gradient in parameters)])
    smallest = max(
        [0.1 * float(upstream.norm()), *(1e-3 * float(layer.convolution.weight.grad.norm()) for layer in reference.layers.values())]
    )
    for target, layer in reference.layers.items():
        computed = gradients[target]
        assert difference(computed.weight, layer.convolution.weight.grad, smallest) < tolerance
        for name, gradient in (("weight", computed.norm_weight), ("bias", computed.norm_bias)):
            parameter = getattr(layer.norm, name, None)
            assert (gradient is None) == (parameter is None)
            if gradient is not None:
                assert difference(gradient, parameter.grad, floor) < 2e-3


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("last", ["plain", "affine", "none"])
@pytest.mark.parametrize("operands", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("empty", [0, 2])
def test_logits_statistics_and_gradients_match_autograd(block, affine, last, operands, empty, monkeypatch):
    from model_zoo.kernels import batch_pass

    monkeypatch.setattr(batch_pass, "half_type", lambda: operands)
    model = network(block, affine, last, empty=empty)
    batch, norms = passes(model)
    check(batch, norms, model, images(), 1e-3 if operands == torch.float32 else 2e-2)


# Single pixels are excluded, because the gradients of shifts vanish there up to rounding.
@pytest.mark.parametrize("size", [(8, 8), (5, 6), (7, 1), (2, 1)])
@pytest.mark.parametrize("count", [16, 48])
@pytest.mark.parametrize("stem_stride", [1, 2])
def test_image_sizes_and_numbers_of_cells(size, count, stem_stride, monkeypatch):
    from model_zoo.kernels import batch_pass

    monkeypatch.setattr(batch_pass, "half_type", lambda: torch.float32)
    model = network(widths=(4, 5, 6), stem_stride=stem_stride, affine=True)
    batch, norms = passes(model, count, *size)
    check(batch, norms, model, images(count, *size), 1e-3)


@pytest.mark.parametrize("keep", [0.0, 0.02, 1.0])
@pytest.mark.parametrize("affine", [False, True])
def test_networks_with_no_or_all_weights(keep, affine, monkeypatch):
    from model_zoo.kernels import batch_pass

    monkeypatch.setattr(batch_pass, "half_type", lambda: torch.float32)
    model = network(keep=keep, affine=affine)
    batch, norms = passes(model)
    check(batch, norms, model, images(), 1e-3)


def test_refilled_weights_replace_the_old_ones_completely(monkeypatch):
    from model_zoo.kernels import batch_pass
    from model_zoo.kernels.live_taps import Entries

    monkeypatch.setattr(batch_pass, "half_type", lambda: torch.float32)
    model = network("bottleneck")
    batch, norms = passes(model)
    check(batch, norms, model, images(), 1e-3)
    with torch.no_grad():
        for layer in trace(model):
            if isinstance(layer, Layer):
                layer.convolution.weight.copy_(layer.convolution.weight.roll(1, 0).flip(1))
    batch.fill({layer.target: Entries.of(layer.convolution.weight.detach().numpy()) for layer in trace(model) if isinstance(layer, Layer)})
    check(batch, norms, model, images(seed=1), 1e-3)


def run(batch, norms, x, upstream):
    logits, tape = batch.forward(x.numpy(), norms)
    return logits, batch.backward(upstream.numpy(), tape)


def assert_same(first, second):
    assert first.keys() == second.keys()
    for target in first:
        for name in ("weight", "norm_weight", "norm_bias"):
            actual, reference = getattr(first[target], name), getattr(second[target], name)
            assert (actual is None and reference is None) or torch.equal(actual, reference)


@pytest.mark.parametrize("first_back", [0, 1])
def test_two_tapes_may_be_open_simultaneously(first_back):
    model = network("bottleneck", affine=True)
    batch, norms = passes(model)
    upstream = torch.randn((32, 10))
    inputs = [images(seed=1), images(seed=2)]
    separate = [run(batch, norms, x, upstream) for x in inputs]
    interleaved = [batch.forward(x.numpy(), norms) for x in inputs]
    for (logits, _), (reference, _) in zip(interleaved, separate, strict=True):
        np.testing.assert_array_equal(logits, reference)
    for index in (first_back, 1 - first_back):
        assert_same(batch.backward(upstream.numpy(), interleaved[index][1]), separate[index][1])


def test_tapes_and_gradients_are_reused():
    batch, norms = passes(network("bottleneck"))
    upstream = torch.randn((32, 10))

    def counts():
        return len(batch._tapes), sum(len(free) for free in batch._free.values())

    run(batch, norms, images(), upstream)
    first = counts()
    for seed in range(3):
        run(batch, norms, images(seed=seed), upstream)
        batch.release(batch.forward(images(seed=seed).numpy(), norms)[1])
        assert counts() == first
    assert first[0] == 1


def test_logits_and_statistics_outlive_their_tape():
    batch, norms = passes(network())
    logits, tape = batch.forward(images().numpy(), norms)
    original, statistics = logits.copy(), dict(tape.statistics)
    means = {target: statistic.mean.copy() for target, statistic in statistics.items()}
    batch.release(tape)
    batch.release(batch.forward(images(seed=3).numpy(), norms)[1])
    np.testing.assert_array_equal(logits, original)
    for target, mean in means.items():
        np.testing.assert_array_equal(statistics[target].mean, mean)


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_the_number_of_threads_affects_only_the_rounding_of_weight_gradients(block):
    model = network(block, affine=True)
    batch, norms = passes(model, 80)
    upstream = torch.randn((80, 10))
    before, runs = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            runs.append(run(batch, norms, images(80), upstream))
    finally:
        torch.set_num_threads(before)
    for logits, gradients in runs[1:]:
        np.testing.assert_array_equal(logits, runs[0][0])
        for target, reference in runs[0][1].items():
            for name in ("norm_weight", "norm_bias"):
                actual, exact = getattr(gradients[target], name), getattr(reference, name)
                assert (actual is None and exact is None) or torch.equal(actual, exact)
            assert difference(gradients[target].weight, reference.weight) < 4e-3


@pytest.mark.parametrize("bias", [3.0, 30.0])
def test_nearly_constant_channels_are_computed_as_accurately_as_in_pytorch(bias, monkeypatch):
    from model_zoo.kernels import batch_pass

    monkeypatch.setattr(batch_pass, "half_type", lambda: torch.float32)
    model = network(affine=True, widths=(4, 5, 6))
    with torch.no_grad():
        model.network.bn1.weight.mul_(1e-3)
        model.network.bn1.bias.fill_(bias)
    x, upstream = images(), torch.randn((32, 10), generator=torch.Generator().manual_seed(9))
    reference, float32_model = autograd_reference(model, x, upstream), copy.deepcopy(model)
    float32_model(x).backward(upstream)
    batch, norms = passes(model)
    _, tape = batch.forward(x.numpy(), norms)
    gradients = batch.backward(upstream.numpy(), tape)
    by_pytorch = {layer.target: layer for layer in trace(float32_model) if isinstance(layer, Layer)}
    for target, layer in reference.layers.items():
        exact = layer.convolution.weight.grad
        pytorch_error = difference(by_pytorch[target].convolution.weight.grad, exact)
        assert difference(gradients[target].weight, exact) < 1e-4 + 10.0 * pytorch_error


@pytest.mark.parametrize("affine", [False, True])
def test_statistics_fold_into_scale_and_shift_of_a_batch_norm(affine):
    from model_zoo.kernels.statistics import Norm, Statistics

    norm = nn.BatchNorm2d(4, affine=affine, eps=1e-3)
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    values = torch.randn(8, 4, 3, 3) * 3 + 1
    mean, variance = (array.double().numpy() for array in (values.mean((0, 2, 3)), values.var((0, 2, 3), unbiased=False)))
    scale, shift = (torch.from_numpy(array).view(-1, 1, 1) for array in Statistics(mean, variance, 72).fold(Norm.of(norm)))
    assert scale.dtype == shift.dtype == torch.float32
    torch.testing.assert_close(values * scale + shift, norm(values).detach(), atol=1e-5, rtol=1e-5)
    assert [array.tolist() for array in Statistics(mean, variance, 72).fold(Norm.of(nn.Identity()))] == [[1.0] * 4, [0.0] * 4]


def test_a_batch_size_that_is_not_a_multiple_of_sixteen_is_an_error():
    with pytest.raises(UnsuitedError, match="multiples of 16, not 40"):
        passes(network(), 40)
