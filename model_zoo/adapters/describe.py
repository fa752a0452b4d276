"""What a filled network is, in the words of a record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from model_zoo.adapters import Imported
from model_zoo.adapters.fill import kept_share
from model_zoo.adapters.scores import Masks
from model_zoo.classifier import Classifier
from model_zoo.packing.frozen import effective_weights
from model_zoo.packing.weights import magnitudes


def describe(
    model: Classifier,
    architecture: Mapping[str, Any],
    affine: bool,
    method: str,
    taxonomy: Mapping[str, Any],
    *,
    masks: Masks | None = None,
    left_out: Mapping[str, int] | None = None,
    notes: Iterable[str] = (),
) -> Imported:
    """A network whose kept weights are floats, or one magnitude a layer with signs; dense where nothing is zero.

    Parameters
    ----------
    method, taxonomy :
        As in a record; the taxonomy is dropped where nothing is pruned.
    masks : Masks, optional
        What the masks were made from.
    """
    share = kept_share(model)
    binary = magnitudes(effective_weights(model)) is not None
    # Networks that are not pruned hold an exact zero now and then, not one weight in a thousand.
    pruned = share < 0.999
    return Imported(
        model=model,
        family="dense" if not pruned else "sparse-binary" if binary else "sparse",
        method=method,
        architecture=architecture,
        affine=affine,
        weight_bits=1 if binary and pruned else 32,
        keep_ratio=share if pruned else None,
        taxonomy=taxonomy if pruned else {},
        zeros=masks.zeros if masks else 0,
        ties=masks.ties if masks else 0,
        left_out=left_out or {},
        notes=tuple(notes),
    )


def without(state: Mapping[str, torch.Tensor], prefix: str) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """A state dict without the tensors under `prefix`, and the parameters that were there, if any, by the prefix."""
    dead = {name: tensor for name, tensor in state.items() if name.startswith(prefix)}
    parameters = sum(tensor.numel() for name, tensor in dead.items() if name.endswith((".weight", ".bias")))
    rest = {name: tensor for name, tensor in state.items() if name not in dead}
    return rest, {prefix.rstrip("."): parameters} if dead else {}
