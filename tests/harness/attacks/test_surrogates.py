"""Tests of surrogate gradients: gradients of step functions are replaced, outputs stay the same."""

import pytest
import torch
from torch import nn

from harness.attacks.native.surrogates import SLOPES, Surrogate
from model_zoo.errors import UnknownNameError

POINTS = torch.tensor([-3.0, -0.5, 0.0, 0.25, 2.0])
EXPECTED = {"ste": [1.0] * 5, "bireal": [0.0, 1.0, 2.0, 1.5, 0.0], "tanh": (1 - POINTS.tanh() ** 2).tolist()}


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images)


class Comparison(nn.Module):
    """A step function that torch does not recognise; `is_step` marks it as one."""

    is_step = True

    def forward(self, inputs):
        return torch.where(inputs < 0, -1.0, 1.0)


def slope(model, name, points=POINTS):
    inputs = points.clone().requires_grad_(True)
    surrogate = Surrogate(model, name)
    outputs = surrogate(inputs)
    (gradient,) = torch.autograd.grad(outputs.sum(), inputs)
    return outputs, gradient, surrogate.replaced


@pytest.mark.parametrize("name", SLOPES)
@pytest.mark.parametrize("model", [Function(torch.sign), Function(torch.Tensor.sign), Comparison()], ids=["sign", "method", "marked"])
def test_outputs_are_unchanged_and_gradients_are_the_surrogates(model, name):
    outputs, gradient, replaced = slope(model, name)
    assert torch.equal(outputs, model(POINTS)) and replaced == 1
    assert gradient.tolist() == pytest.approx(EXPECTED[name])


@pytest.mark.parametrize("name", SLOPES)
def test_gradient_of_rounding_is_the_identity(name):
    outputs, gradient, _ = slope(Function(lambda inputs: (4 * inputs).round() / 4), name)
    assert torch.equal(outputs, (4 * POINTS).round() / 4) and gradient.tolist() == [1.0] * 5


def test_a_model_without_step_functions_is_unchanged():
    points = torch.randn(4, 3)
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    outputs, gradient, replaced = slope(model, "ste", points)
    inputs = points.clone().requires_grad_(True)
    assert replaced == 0 and torch.equal(outputs, model(points))
    assert torch.equal(gradient, torch.autograd.grad(model(inputs).sum(), inputs)[0])


def test_hooks_are_removed_after_the_call():
    model = Comparison()
    Surrogate(model, "ste")(POINTS)
    assert not model._forward_hooks
    inputs = POINTS.clone().requires_grad_(True)
    assert torch.autograd.grad(torch.sign(inputs).sum(), inputs)[0].tolist() == [0.0] * 5


def test_unknown_surrogate_is_an_error():
    with pytest.raises(UnknownNameError, match="bireal"):
        Surrogate(Comparison(), "birael")
