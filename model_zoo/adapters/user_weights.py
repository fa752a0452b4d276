"""Loading of a published file of weights into a user's network: the tensors are located, matched by name and checked for their types.

The file is read as data. The tensors may be anywhere in it, if exactly one place fits the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from model_zoo.adapters.checkpoint import read_checkpoint
from model_zoo.adapters.kind import is_safetensors, kind_of
from model_zoo.errors import DamagedFileError, UsageError

State = dict[str, torch.Tensor]
# Batch norms' counter, which is unused in eval mode and missing in files from before 2018.
COUNTED = "num_batches_tracked"
# Depth of nested mappings in which weights are searched.
DEPTH = 3


def fill_user_network(network: nn.Module, path: Path) -> None:
    """Load a file of weights (safetensors, or a file that torch saved) into a network, strictly.

    Tensors are searched at the top level of the file and in nested mappings and one-element lists. Prefixes that all names share
    ("module.", "_orig_mod.") are ignored. Floats of another precision are cast.

    Raises
    ------
    UsageError
        If the file does not exist.
    DamagedFileError
        If the file cannot be read, no place or several places in it fit the network, or floats and integers are interchanged.
    """
    expected = network.state_dict()
    places = dict(_states(_read_content(path)))
    if not places:
        raise DamagedFileError(path, "a state dict of tensors", "something else")
    fitting = {place: renamed for place, state in places.items() if (renamed := _renamed(state, expected)) is not None}
    if len(fitting) > 1:
        locations = " and ".join(repr(place) for place in sorted(fitting))
        raise DamagedFileError(path, "one set of weights that fits the network", f"several, under {locations}: keep one of them")
    if not fitting:
        raise DamagedFileError(path, *_difference(places, expected))
    (state,) = fitting.values()
    for name, tensor in state.items():
        if tensor.is_meta or tensor.layout is not torch.strided:
            raise DamagedFileError(path, f"{name!r} with all its values", f"a {'meta' if tensor.is_meta else 'sparse'} tensor")
        if tensor.is_floating_point() != expected[name].is_floating_point():
            raise DamagedFileError(path, f"{name!r} of {_type_name(expected[name])}", f"{_type_name(tensor)}{_quantised(tensor)}")
    network.load_state_dict(state, strict=False)


def _read_content(path: Path) -> Any:
    if not path.is_file():
        raise UsageError(f"no file {path}")
    with path.open("rb") as file:
        head = file.read(16)
    if is_safetensors(head):
        try:
            return load_file(path)
        except (SafetensorError, RuntimeError, ValueError, KeyError, OSError):
            raise DamagedFileError(path, "safetensors", "a file that is cut short or damaged") from None
    kind = kind_of(path)
    if not kind.startswith(("a file that torch saved", "a pickle")):
        raise DamagedFileError(path, "weights (safetensors, or a state dict that torch saved)", kind)
    return read_checkpoint(path, placeholders=True)


def _states(content: Any) -> Iterator[tuple[str, State]]:
    """Iterate over the mappings in a file that contain tensors: the keys that lead to the mapping, and its tensors.

    A mapping that several keys lead to, among them its own, occurs once.
    """
    visited, level = set[int](), [("", content)]
    for _ in range(DEPTH + 1):
        below = []
        for place, value in level:
            mapping = value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value
            if not isinstance(mapping, Mapping) or id(mapping) in visited:
                continue
            visited.add(id(mapping))
            tensors = {str(name): item for name, item in mapping.items() if isinstance(item, torch.Tensor) and not item.is_nested}
            if tensors:
                yield place or "the file itself", tensors
            below += [(f"{place}.{name}" if place else str(name), item) for name, item in mapping.items()]
        level = below


def _renamed(state: State, expected: Mapping[str, torch.Tensor]) -> State | None:
    """Return the tensors under the network's names, or None if their names and shapes are not exactly those of the network."""
    inner = {_without(prefix, expected): prefix for prefix in _prefixes(expected)}
    for prefix in _prefixes(state):
        stripped = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        for names, outer in inner.items():
            candidate = {outer + name: tensor for name, tensor in stripped.items() if name in names}
            if len(candidate) == len(stripped) and _fits(candidate, expected):
                return candidate
    return None


def _fits(state: State, expected: Mapping[str, torch.Tensor]) -> bool:
    needed = {name for name in expected if not name.endswith(COUNTED)}
    return needed <= state.keys() and all(tensor.shape == expected[name].shape for name, tensor in state.items())


def _without(prefix: str, names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.removeprefix(prefix) for name in names)


def _prefixes(names: Iterable[str]) -> list[str]:
    """Return the prefixes, each ending in a dot, that all names share; the empty prefix is the first."""
    listed = list(names)
    shared: list[str] = [""]
    while listed and all(name.startswith(shared[-1]) and "." in name[len(shared[-1]) :] for name in listed):
        first = listed[0][: listed[0].index(".", len(shared[-1])) + 1]
        if not all(name.startswith(first) for name in listed):
            break
        shared.append(first)
    return shared


def _difference(places: Mapping[str, State], expected: Mapping[str, torch.Tensor]) -> tuple[str, str]:
    """Describe what is expected, and what the place with the most matching names has."""

    def stripped(state: State) -> State:
        prefix = _prefixes(state)[-1] if not set(state) & set(expected) else ""
        return {name.removeprefix(prefix): tensor for name, tensor in state.items()}

    candidates = {place: stripped(state) for place, state in places.items()}
    place, nearest = max(candidates.items(), key=lambda item: len(set(item[1]) & set(expected)))
    location = "" if place == "the file itself" else f" under {place!r}"
    missing = [name for name in expected if name not in nearest and not name.endswith(COUNTED)]
    if missing:
        return f"a tensor {_quote_first(missing)}{location}", "none of that name"
    extra = [name for name in nearest if name not in expected]
    if extra:
        return f"the tensors of the network{location}", f"additional ones: {_quote_first(extra)}"
    name = next(name for name, tensor in nearest.items() if tensor.shape != expected[name].shape)
    return f"{name!r} of shape {list(expected[name].shape)}{location}", f"{list(nearest[name].shape)}"


def _quote_first(names: Sequence[str]) -> str:
    rest = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"{names[0]!r}{rest}"


def _type_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _quantised(tensor: torch.Tensor) -> str:
    is_byte = tensor.is_quantized or tensor.dtype in (torch.int8, torch.uint8)
    return " (quantised? without its scale it cannot be read)" if is_byte else ""
