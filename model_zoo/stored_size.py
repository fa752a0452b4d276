"""Size of a network's tensors in memory: shared memory counts once, masked tensors by their kept weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn


def stored_size(network: nn.Module) -> tuple[int, str]:
    """Return the bytes of a network's tensors and the convention: "tensors", or "kept weights and masks" if torch prunes by masks.

    Memory that several tensors share (tied weights, views) counts once, and so does an element that a tensor repeats (`expand`). For a
    tensor and its mask, as of torch.nn.utils.prune or of a parametrisation with a mask, the kept weights count, and one bit per weight
    for the mask.
    """
    state = {name: tensor for name, tensor in network.state_dict().items() if isinstance(tensor, torch.Tensor)}
    mask_names = _mask_names(state)
    memory, total = _Memory(), 0
    masks = set(mask_names.values())
    # Masked tensors first: their memory counts by the mask, under whatever other name it is seen again.
    for name in sorted(state, key=lambda name: name not in mask_names and name not in masks):
        tensor = state[name]
        new = memory.new_bytes(tensor)
        if name in masks:
            total += math.ceil(tensor.numel() / 8) if new else 0
        elif name in mask_names:
            total += int(torch.count_nonzero(state[mask_names[name]])) * tensor.element_size() if new else 0
        else:
            total += new
    return total, "kept weights and masks" if masks else "tensors"


def _mask_names(state: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Return the name of the mask of every masked tensor of a state."""
    pairs = {name: f"{name.removesuffix('_orig')}_mask" for name in state if name.endswith("_orig")}
    for name in state:
        owner = name.removesuffix("original")
        if name != owner and ".parametrizations." in f".{name}":
            buffers = [other for other in state if other.startswith(owner) and other != name and _is_mask(state[other], state[name])]
            if buffers:
                pairs[name] = buffers[0]
    return {name: mask for name, mask in pairs.items() if mask in state and _is_mask(state[mask], state[name])}


def _is_mask(mask: torch.Tensor, values: torch.Tensor) -> bool:
    return mask.shape == values.shape and mask.numel() > 0 and bool(((mask == 0) | (mask == 1)).all())


class _Memory:
    """Elements of storages that have been counted."""

    def __init__(self) -> None:
        self._counted: dict[tuple[int, int], torch.Tensor] = {}

    def new_bytes(self, tensor: torch.Tensor) -> int:
        """Return the bytes of a tensor's elements that no earlier tensor had, and count them."""
        if tensor.layout is not torch.strided or tensor.numel() == 0:
            return tensor.nbytes
        storage, size = tensor.untyped_storage(), tensor.element_size()
        counted = self._counted.setdefault((storage.data_ptr(), size), torch.zeros(storage.nbytes() // size, dtype=torch.bool))
        before = int(counted.sum())
        # An axis of stride 0 repeats the same elements.
        shape = [length if stride else 1 for length, stride in zip(tensor.shape, tensor.stride(), strict=True)]
        counted.as_strided(shape, tensor.stride(), tensor.storage_offset()).fill_(True)
        return (int(counted.sum()) - before) * size
