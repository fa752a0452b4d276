"""Wrapper around user networks: every call goes through one module, which checks the network and shares no tensor with it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn

from model_zoo.errors import RefusedError
from model_zoo.surroundings import isolated_torch, restore, settings
from model_zoo.user_code import user_code

# Largest difference between an image's logits in two calls, as a share of the batch's range: kernels differ, and rounding flips steps.
TOLERANCE = 1e-2
# Audited calls are those numbered by powers of two and multiples of AUDIT_EVERY, on AUDIT_IMAGES of the batch. A rebuilt network is asked
# at powers of two and multiples of REBUILD_EVERY, on REBUILD_AUDIT_IMAGES.
AUDIT_EVERY = 64
REBUILD_EVERY = 256
AUDIT_IMAGES = 5
REBUILD_AUDIT_IMAGES = 16
# Share of all images audited so far whose logits may differ: rounding flips a step now and then.
AUDIT_SHARE = 0.05
# Rounding does not change logits by this share of the batch's range; so many images may differ so much all the same.
VERY_DIFFERENT = 0.5
MOST_VERY_DIFFERENT = 2

Imports = Callable[[], AbstractContextManager[None]]


class Fenced(nn.Module):
    """User network that is called with copies of the images.

    Parameters
    ----------
    network : nn.Module
        Frozen network in eval mode; maps float32 [N, C, H, W] to logits [N, classes] of any floating type.
    rebuild : callable, optional
        Builds the same network from scratch, without any state from earlier calls; None if that is not possible.
    imports : callable, optional
        Returns the context manager in which the network can import the modules of its user's folders.
    stochastic : bool
        Whether the network is declared to draw random numbers.

    Notes
    -----
    `forward` raises a `RefusedError` if the network writes to its images, runs a backward pass into them, changes torch's settings, draws
    random numbers without being declared stochastic, or returns anything but logits. Some calls are audited: a few images of the batch
    are evaluated again, one at a time and without gradients, in some audits by a rebuilt network, and the logits of most of them must
    agree. Any exception in the network becomes a `UserCodeError`.
    """

    def __init__(
        self, network: nn.Module, rebuild: Callable[[], nn.Module] | None = None, imports: Imports = nullcontext, stochastic: bool = False
    ) -> None:
        super().__init__()
        self.network = network
        self.rebuild, self.imports, self.stochastic = rebuild, imports, stochastic
        self.calls = self.audited = self.differing_rows = self.very_different_rows = 0
        self.training = network.training

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return float32 logits [N, classes] of images [N, C, H, W]."""
        logits = self._call_network(images)
        self.calls += 1
        is_power = self.calls & (self.calls - 1) == 0
        if not self.stochastic and len(images) and (is_power or self.calls % AUDIT_EVERY == 0):
            self._audit(images.detach(), logits.detach(), rebuild=is_power or self.calls % REBUILD_EVERY == 0)
        return logits

    def start(self) -> None:
        """Count calls from 0 again: audits are most frequent among the first calls of a unit."""
        self.calls = self.audited = self.differing_rows = self.very_different_rows = 0

    def fresh(self) -> Fenced:
        """Return a rebuilt network in a new wrapper, or this one if it cannot be rebuilt."""
        if self.rebuild is None:
            return self
        return Fenced(self.rebuild(), self.rebuild, self.imports, self.stochastic)

    def state_sha256(self) -> str:
        """Return the sha256 of the names, types, shapes and contents of all parameters and buffers."""
        digest = hashlib.sha256()
        for name, tensor in (*self.network.named_parameters(), *self.network.named_buffers()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor_bytes(tensor))
        return digest.hexdigest()

    def _call_network(self, images: torch.Tensor) -> torch.Tensor:
        copied = images.clone()
        previous_settings, generators = settings(), None if self.stochastic else _generators()
        gradient = images.grad if images.is_leaf else None
        try:
            with self.imports(), user_code(f"model failed on images {list(images.shape)}"):
                logits = self.network(copied)
        finally:
            changed = restore(previous_settings)
        if changed:
            raise RefusedError(f"model refused: a call changes {changed[0]}")
        if images.is_leaf and images.grad is not gradient:
            raise RefusedError("model refused: a call runs a backward pass into its input images")
        if generators is not None and generators != _generators():
            _set_generators(generators)
            raise RefusedError("model refused: it draws or seeds random numbers; a stochastic model must be declared as stochastic")
        if not torch.equal(_bits(copied), _bits(images)):
            raise RefusedError("model refused: it writes to its input images (an in-place operation?)")
        return _as_logits(logits, len(images))

    def _audit(self, images: torch.Tensor, logits: torch.Tensor, rebuild: bool) -> None:
        count = REBUILD_AUDIT_IMAGES if rebuild else AUDIT_IMAGES
        rows = np.unique(np.linspace(0, len(images) - 1, count).round().astype(int)).tolist()
        network = self.fresh().to(images.device) if rebuild else self
        with torch.no_grad():
            separate = torch.cat([network._call_network(images[row : row + 1]) for row in rows])
        disagreeing = int(disagree(logits[rows], separate, logits).sum())
        self.audited += len(rows)
        self.differing_rows += disagreeing
        self.very_different_rows += int(disagree(logits[rows], separate, logits, VERY_DIFFERENT).sum())
        is_exceeded = self.differing_rows > max(2.0, AUDIT_SHARE * self.audited) or self.very_different_rows > MOST_VERY_DIFFERENT
        if 2 * disagreeing > len(rows) or is_exceeded:
            raise RefusedError(
                "model refused: the logits of an image depend on its batch mates, on whether gradients are computed, or on earlier calls"
            )


@contextmanager
def inspecting(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the network inside the wrapper, whose methods and forward passes the block may call; yields other models unchanged.

    Whatever the network's code raises in the block becomes a `UserCodeError`, and torch's settings and all random generators are restored.
    """
    if not isinstance(model, Fenced):
        yield model
        return
    with isolated_torch(), model.imports(), user_code("model failed"):
        yield model.network


def unfenced(model: nn.Module) -> nn.Module:
    """Return the network inside the wrapper, for inspection only; attacks use the wrapper."""
    return model.network if isinstance(model, Fenced) else model


def disagree(logits: torch.Tensor, other_logits: torch.Tensor, scale: torch.Tensor, tolerance: float = TOLERANCE) -> torch.Tensor:
    """Return, as bool [N], whether rows of two tensors of logits [N, classes] differ by more than `tolerance` times the range of `scale`.

    The range is the largest difference between the logits of one finite row of `scale`. Rows also differ if only one value of a pair is
    finite.
    """
    finite = torch.isfinite(logits) & torch.isfinite(other_logits)
    finite_rows = scale[torch.isfinite(scale).all(1)]
    spread = float((finite_rows.amax(1) - finite_rows.amin(1)).amax()) if finite_rows.numel() else 1.0
    differs = torch.where(finite, logits - other_logits, 0.0).abs().amax(1) > tolerance * spread
    return differs | (torch.isfinite(logits) != torch.isfinite(other_logits)).any(1)


def tensor_bytes(tensor: torch.Tensor) -> bytes:
    """Return the bytes of a tensor of any type, independent of memory layout."""
    plain = tensor.detach().cpu()
    if plain.is_quantized:
        plain = plain.dequantize()
    if plain.layout is not torch.strided:
        plain = plain.to_dense()
    content: bytes = plain.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return content


def _bits(images: torch.Tensor) -> torch.Tensor:
    """Return the floats reinterpreted as integers, so that NaN equals itself."""
    return images.detach().view({2: torch.int16, 4: torch.int32, 8: torch.int64}[images.element_size()])


def _generators() -> tuple[Any, ...]:
    state: Any = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), (state[0], state[1].tobytes(), *state[2:]), random.getstate()


def _set_generators(states: tuple[Any, ...]) -> None:
    """Set the generators of torch, NumPy and Python to the states that `_generators` returned."""
    torch_state, (name, keys, *rest), python_state = states
    torch.set_rng_state(torch.frombuffer(bytearray(torch_state), dtype=torch.uint8))
    np.random.set_state((name, np.frombuffer(keys, np.uint32), *rest))
    random.setstate(python_state)


def _as_logits(output: Any, images: int) -> torch.Tensor:
    if not isinstance(output, torch.Tensor):
        raise RefusedError(f"model refused: logits [{images}, classes] expected, found {type(output).__name__}")
    if output.layout is not torch.strided or output.is_meta:
        raise RefusedError(f"model refused: dense logits expected, found a {'meta' if output.is_meta else 'sparse'} tensor")
    logits = output.as_subclass(torch.Tensor)
    if logits.ndim != 2 or len(logits) != images or not logits.shape[1]:
        raise RefusedError(f"model refused: logits [{images}, classes] expected, found {list(logits.shape)}")
    if not logits.is_floating_point():
        raise RefusedError(f"model refused: floating-point logits expected, found {logits.dtype}")
    return logits.clone() if logits.dtype == torch.float32 else logits.float()
