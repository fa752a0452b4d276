"""Signs that are not stored, because they can be drawn again from the seed of the training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from model_zoo.classifier import build_classifier
from model_zoo.errors import UsageError
from model_zoo.families import get_family
from model_zoo.layers.pruned_binary import PrunedBinaryConv2d

# torch's CPU generator draws signs and scores layer by layer, in the order of training.
GENERATOR = "torch-cpu"


def draw_signs(architecture: Mapping[str, Any], drawn: Mapping[str, Any]) -> list[np.ndarray]:
    """Return the signs of every layer of the untrained network, float32 [out, in, k, k] of -1 and +1.

    Parameters
    ----------
    architecture : mapping
        Architecture as `build_classifier` takes it.
    drawn : mapping
        `generator`, `seed` and `weight_init` of the recipe.

    Raises
    ------
    ValueError
        If this version does not know the generator.
    """
    if drawn["generator"] != GENERATOR:
        raise ValueError(f"signs drawn by {drawn['generator']!r}, but only {GENERATOR!r} is known")
    family = get_family("pruned-binary")
    options = family.options({"keep_ratio": 1.0, "allocation_power": 1.0, "weight_init": drawn["weight_init"]})
    convolution = family.convolution(options)

    def signs_alone(*sizes: int, **placed: int) -> _Signs:
        return _Signs(cast(PrunedBinaryConv2d, convolution(*sizes, **placed)).signs)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(drawn["seed"]))
        model = build_classifier(architecture, signs_alone, family.affine)
    return [layer.signs.numpy() for layer in model.modules() if isinstance(layer, _Signs)]


class _Signs(nn.Module):
    """Holder of a layer's signs alone; the rest is freed before the next layer is drawn, so that a quarter of the memory is needed."""

    def __init__(self, signs: torch.Tensor) -> None:
        super().__init__()
        self.signs = signs


def check_drawn(architecture: Mapping[str, Any], drawn: Mapping[str, Any], weights: Sequence[np.ndarray]) -> None:
    """Check that the drawn signs are those of all nonzero `weights` (one array per layer, [out, in, k, k]).

    Raises
    ------
    UsageError
        If they are not: the weights do not come from that seed, or another version of torch draws other numbers.
    """
    for signs, weight in zip(draw_signs(architecture, drawn), weights, strict=True):
        if signs.shape != weight.shape or (np.sign(weight) * signs < 0).any():
            raise UsageError(f"the signs of this model are not those drawn from seed {drawn['seed']}: store them (--signs stored)")
