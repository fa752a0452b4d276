"""Description of an imported network in the fields of a record."""

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
    """Return the `Imported` of a filled network, with the family and the keep ratio that follow from its weights.

    The family is "dense" if at most 0.1 % of the weights are zero, "sparse-binary" if the kept weights of every layer have one
    magnitude, else "sparse".

    Parameters
    ----------
    method, taxonomy : str, mapping
        As in a record; the taxonomy is dropped if nothing is pruned.
    masks : Masks, optional
        Masks that were made from scores; its counts of zeros and ties are copied.
    left_out, notes : mapping, iterable of str
        As in `Imported`.
    """
    share = kept_share(model)
    is_binary = magnitudes(effective_weights(model)) is not None
    # Networks that are not pruned contain a few exact zeros, fewer than one weight in a thousand.
    is_pruned = share < 0.999
    return Imported(
        model=model,
        family="dense" if not is_pruned else "sparse-binary" if is_binary else "sparse",
        method=method,
        architecture=architecture,
        affine=affine,
        weight_bits=1 if is_binary and is_pruned else 32,
        keep_ratio=share if is_pruned else None,
        taxonomy=taxonomy if is_pruned else {},
        zeros=masks.zeros if masks else 0,
        ties=masks.ties if masks else 0,
        left_out=left_out or {},
        notes=tuple(notes),
    )


def without(state: Mapping[str, torch.Tensor], prefix: str) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """Return a state dict without the tensors under `prefix`, and {prefix: number of their parameters}, empty if there are none."""
    removed = {name: tensor for name, tensor in state.items() if name.startswith(prefix)}
    parameters = sum(tensor.numel() for name, tensor in removed.items() if name.endswith((".weight", ".bias")))
    remaining = {name: tensor for name, tensor in state.items() if name not in removed}
    return remaining, {prefix.rstrip("."): parameters} if removed else {}
