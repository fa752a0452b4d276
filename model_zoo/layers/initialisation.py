"""Initialisation of the frozen weights of a pruned network: the paper's choice and those of its ablation.

If only the signs are drawn, they are those of PyTorch's default Conv2d initialisation (kaiming-uniform, a = sqrt 5). If the magnitudes are
drawn too, signs and magnitudes come from the same draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from model_zoo.errors import UsageError

WEIGHT_INITS = ("binary", "signed-constant", "signed-constant-scaled", "uniform", "kaiming-normal")


def draw_weights(shape: Sequence[int], kind: str) -> torch.Tensor:
    """Draw frozen weights, float32 of `shape` [out, in, k, k], from torch's global generator.

    Parameters
    ----------
    kind : str
        "binary": only the signs count, every magnitude is 1 (the paper). "signed-constant": signs times sqrt(2 / fan_in).
        "signed-constant-scaled": the same with fan_in times the layer's keep ratio in place of fan_in (Ramanujan et al. 2020). For these
        three kinds the caller replaces the drawn magnitudes by `constant_magnitude`. "uniform": from (-1, 1). "kaiming-normal": normal with
        deviation sqrt(2 / fan_in).

    Raises
    ------
    UsageError
        If `kind` is none of these.
    """
    if kind not in WEIGHT_INITS:
        raise UsageError(f"weight_init must be one of {', '.join(WEIGHT_INITS)}, not {kind!r}")
    weights = torch.empty(tuple(shape))
    if kind == "uniform":
        return weights.uniform_(-1.0, 1.0)
    if kind == "kaiming-normal":
        return nn.init.kaiming_normal_(weights, mode="fan_in", nonlinearity="relu")
    return nn.init.kaiming_uniform_(weights, a=math.sqrt(5))


def constant_magnitude(shape: Sequence[int], kind: str, keep_ratio: float) -> float:
    """Return the common magnitude of a layer's weights, for kinds that have one; `keep_ratio` in (0, 1] is that of the layer."""
    if kind == "binary":
        return 1.0
    fan = math.prod(shape[1:]) * (keep_ratio if kind == "signed-constant-scaled" else 1.0)
    return math.sqrt(2.0 / fan)
