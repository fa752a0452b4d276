"""Tests of the activations: values, gradients, bits, and names."""

import pytest
import torch
from torch.nn import functional as F

from harness.attacks.native.surrogates import Surrogate
from model_zoo.errors import UnknownNameError
from model_zoo.layers.activations import SignSTE, activation_of, get_activation

POINTS = [-3.0, -1.01, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 1.01, 3.0]


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_sign_has_the_type_of_its_input(kind: torch.dtype) -> None:
    signs = get_activation("sign-ste").make()(torch.tensor(POINTS, dtype=kind))
    assert signs.dtype == kind
    assert signs.tolist() == [-1.0] * 4 + [1.0] * 6


def test_the_gradient_of_the_sign_is_one_within_one_and_zero_outside() -> None:
    inputs = torch.tensor(POINTS, requires_grad=True)
    weights = torch.arange(1.0, len(POINTS) + 1)
    (SignSTE()(inputs) * weights).sum().backward()
    assert inputs.grad is not None
    assert inputs.grad.tolist() == [0.0, 0.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 0.0, 0.0]


def test_attacks_use_the_surrogate_gradient_that_the_activation_declares() -> None:
    inputs = torch.tensor(POINTS, requires_grad=True)
    surrogate = Surrogate(SignSTE(), get_activation("sign-ste").backward)
    surrogate(inputs).sum().backward()
    assert surrogate.replaced == 1 and inputs.grad is not None
    assert inputs.grad.tolist() == [1.0] * len(POINTS)


def test_the_default_activation_is_relu() -> None:
    assert activation_of({"name": "vgg16"}) == get_activation("relu")
    assert (activation_of({}).bits, activation_of({}).backward) == (32, "exact")
    assert activation_of({"activation": "sign-ste"}).bits == 1
    assert torch.equal(activation_of({}).make()(torch.tensor(POINTS)), F.relu(torch.tensor(POINTS)))


def test_an_unknown_activation_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'sign-ste'"):
        activation_of({"activation": "sign-st"})
