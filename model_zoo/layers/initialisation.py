"""How the frozen weights of a pruned network are drawn: the paper's choice and those of its ablation.

Whatever the kind, the signs are those of PyTorch's own Conv2d initialisation (kaiming-uniform, a = sqrt 5), or, where the magnitudes are
drawn too, those of the draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from model_zoo.errors import UsageError

WEIGHT_INITS = ("binary", "signed-constant", "signed-constant-scaled", "uniform", "kaiming-normal")


def draw_weights(shape: Sequence[int], kind: str) -> torch.Tensor:
    """Frozen weights as drawn, float32 of `shape` [out, in, k, k], from torch's global generator.

    Parameters
    ----------
    kind : str
        "binary": only the signs count, every magnitude is 1 (the paper). "signed-constant": signs times sqrt(2 / fan_in), and
        "signed-constant-scaled" with fan_in times the layer's keep ratio in its place (Ramanujan et al. 2020); the constant is
        applied by `constant_magnitude`. "uniform": from (-1, 1). "kaiming-normal": normal with deviation sqrt(2 / fan_in).

    Raises
    ------
    UsageError
        For another kind.
    """
    if kind not in WEIGHT_INITS:
        raise UsageError(f"weight_init is one of {', '.join(WEIGHT_INITS)}, not {kind!r}")
    weights = torch.empty(tuple(shape))
    if kind == "uniform":
        return weights.uniform_(-1.0, 1.0)
    if kind == "kaiming-normal":
        return nn.init.kaiming_normal_(weights, mode="fan_in", nonlinearity="relu")
    return nn.init.kaiming_uniform_(weights, a=math.sqrt(5))


def constant_magnitude(shape: Sequence[int], kind: str, keep_ratio: float) -> float:
    """The one magnitude of a layer's weights for the kinds that have one; `keep_ratio` in (0, 1] is the layer's own."""
    if kind == "binary":
        return 1.0
    fan = math.prod(shape[1:]) * (keep_ratio if kind == "signed-constant-scaled" else 1.0)
    return math.sqrt(2.0 / fan)
