"""Surrogate gradients for step functions, whose gradient is zero almost everywhere.

The network's outputs do not change; only the backward pass is replaced (BPDA, Athalye et al. 2018, arXiv 1802.00420). Calls of torch's
steps (sign, sgn, heaviside) are intercepted; a module that computes a step in another way is marked by a true attribute `is_step`.
Rounding is always differentiated as the identity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from model_zoo.errors import UnknownNameError

Slope = Callable[[torch.Tensor], torch.Tensor]

# Derivatives put in place of a step's, by name; a new one is a line here.
SLOPES: Mapping[str, Slope] = {
    # The identity (Bengio et al. 2013, arXiv 1308.3432), not clipped: a unit far from its step still has a gradient.
    "ste": torch.ones_like,
    # The derivative of the piecewise quadratic of Bi-Real Net (Liu et al. 2018, arXiv 1808.00278).
    "bireal": lambda inputs: (2.0 - 2.0 * inputs.abs()).clamp(min=0.0),
    "tanh": lambda inputs: 1.0 - inputs.tanh().square(),
}
_STEPS = {torch.sign, torch.Tensor.sign, torch.sgn, torch.Tensor.sgn, torch.heaviside, torch.Tensor.heaviside}
_ROUNDINGS = {torch.round, torch.Tensor.round, torch.floor, torch.Tensor.floor, torch.ceil, torch.Tensor.ceil}


class Surrogate(nn.Module):
    """Wrapper of `model` with the same outputs, whose steps have the derivative `SLOPES[name]`.

    `replaced` is the number of steps and roundings in the last forward pass; if it is zero, the gradients are those of `model` too.

    Raises
    ------
    UnknownNameError
        If there is no such surrogate.
    """

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        if name not in SLOPES:
            raise UnknownNameError("surrogate gradient", name, SLOPES, "harness.attacks.native.surrogates.SLOPES")
        self.model, self.slope = model, SLOPES[name]
        self.replaced = 0
        self.train(model.training)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the model's logits of `images`, [N, classes]."""
        self.replaced = 0
        hooks = [module.register_forward_hook(self._replace_step) for module in self.model.modules() if getattr(module, "is_step", False)]
        try:
            with _SurrogateMode(self):
                logits: torch.Tensor = self.model(images)
        finally:
            for hook in hooks:
                hook.remove()
        return logits

    def replace(self, inputs: torch.Tensor, outputs: torch.Tensor, slope: Slope) -> torch.Tensor:
        """Return `outputs` with the derivative `slope(inputs)` with respect to `inputs`; all have the same shape."""
        self.replaced += 1
        return _SlopedStep.apply(inputs, outputs.detach(), slope)  # type: ignore[no-untyped-call]

    def _replace_step(self, module: nn.Module, inputs: tuple[torch.Tensor, ...], outputs: torch.Tensor) -> torch.Tensor:
        return self.replace(inputs[0], outputs, self.slope)


class _SurrogateMode(TorchFunctionMode):
    """Function mode in which torch's steps and roundings have the surrogate's gradient."""

    def __init__(self, surrogate: Surrogate) -> None:
        super().__init__()
        self.surrogate = surrogate

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        if func in _STEPS:
            return self.surrogate.replace(args[0], outputs, self.surrogate.slope)
        if func in _ROUNDINGS:
            return self.surrogate.replace(args[0], outputs, torch.ones_like)
        return outputs


class _SlopedStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, outputs: torch.Tensor, slope: Slope) -> torch.Tensor:
        ctx.save_for_backward(slope(inputs))
        return outputs.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradients[0] * ctx.saved_tensors[0], None, None
