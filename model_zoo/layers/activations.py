"""Activations by name, the values of an architecture's field `activation`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from model_zoo.errors import UnknownNameError
from model_zoo.layers.signs import sign

DEFAULT = "relu"


class _SignClipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(inputs)
        return sign(inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        (inputs,) = ctx.saved_tensors
        return gradients[0] * (inputs.abs() <= 1)


class SignSTE(nn.Module):
    """Sign with a straight-through gradient: the gradient passes if |x| <= 1 and is zero elsewhere (Hubara et al. 2016, arXiv 1602.02830).

    `is_step` marks the module for attacks that put a surrogate gradient in place of a step's.
    """

    is_step = True

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the sign of `inputs`, values -1 and +1 of the same shape and dtype; sign(0) = +1."""
        return _SignClipped.apply(inputs)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Activation:
    """Activation of a network, applied to each number.

    Attributes
    ----------
    make : callable
        Called without arguments; returns the module.
    bits : int
        Bits of an activated number, the `activation_bits` of a record.
    backward : str
        Gradient that a record declares for a network with this activation; see `model_zoo.schema.Record`.
    """

    make: Callable[[], nn.Module]
    bits: int
    backward: Literal["exact", "ste"]


ACTIVATIONS: Mapping[str, Activation] = {
    "relu": Activation(nn.ReLU, bits=32, backward="exact"),
    "sign-ste": Activation(SignSTE, bits=1, backward="ste"),
}


def get_activation(name: str) -> Activation:
    """Return the activation called `name`; raises an UnknownNameError if there is none."""
    if name not in ACTIVATIONS:
        raise UnknownNameError("activation", name, ACTIVATIONS, "model_zoo.layers.activations.ACTIVATIONS")
    return ACTIVATIONS[name]


def activation_of(architecture: Mapping[str, Any]) -> Activation:
    """Return the activation of an architecture, ReLU if it has no field `activation`; raises an UnknownNameError for another name."""
    return get_activation(architecture.get("activation", DEFAULT))
