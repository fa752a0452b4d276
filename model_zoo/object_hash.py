"""Hash of a Python object by content: attributes, nested containers, tensors, functions and their closures."""

from __future__ import annotations

import functools
import hashlib
import random
import re
from collections.abc import Collection, Iterable, Mapping, Set
from pathlib import Path, PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from model_zoo.fence import tensor_bytes

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), torch.dtype, torch.device, torch.Size, range, slice)
# Attributes that every network has; they are hashed only if they differ from those of an empty module.
_EMPTY = vars(nn.Module())
# Attributes that Python adds to every class.
_CLASS_ATTRIBUTES = {
    "__dict__",
    "__weakref__",
    "__module__",
    "__doc__",
    "__annotations__",
    "__firstlineno__",
    "__static_attributes__",
    "_abc_impl",
}


def object_sha256(value: Any, modules: Collection[str] = (), folder: Path | None = None) -> str:
    """Return the sha256 of everything that can be reached from an object.

    Classes that are defined in one of `modules` (names of modules) are hashed with their attributes and functions, other classes and
    torch's functions by name alone. Memory addresses, devices of tensors, the order in which attributes were set, and the path of
    `folder` in texts do not matter.
    """
    # The root folder is part of every path.
    hasher = _Hasher(frozenset(modules), str(folder) if folder is not None and folder != folder.parent else None)
    hasher.add(value)
    return hasher.digest.hexdigest()


class _Hasher:
    def __init__(self, modules: frozenset[str], folder: str | None) -> None:
        self.digest = hashlib.sha256()
        self.modules, self.folder = modules, folder
        # Objects visited so far, by address; they are kept alive so that no address is reused.
        self._visited: dict[int, tuple[int, Any]] = {}

    def add(self, value: Any) -> None:
        if isinstance(value, _PLAIN):
            self._write(type(value).__name__, repr(value))
            return
        if id(value) in self._visited:
            self._write("met", str(self._visited[id(value)][0]))
            return
        self._visited[id(value)] = len(self._visited), value
        if isinstance(value, torch.Tensor):
            self._tensor(value)
        elif isinstance(value, (np.ndarray, np.generic)):
            self._array(np.asarray(value))
        elif isinstance(value, (FunctionType, MethodType, BuiltinFunctionType, functools.partial, CodeType)):
            self._function(value)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, ModuleType):
            self._write("module", value.__name__)
        elif isinstance(value, PurePath):
            # Paths keep parts of their text in attributes when they are first asked for it.
            self._write("path", str(value))
        else:
            self._object(value)

    def _write(self, *words: str) -> None:
        for word in words:
            content = (word if self.folder is None else word.replace(self.folder, "")).encode("utf-8", "surrogatepass")
            self.digest.update(f"{len(content)}:".encode() + content)

    def _add_all(self, kind: str, values: Iterable[Any]) -> None:
        listed = list(values)
        self._write(kind, str(len(listed)))
        for value in listed:
            self.add(value)

    def _tensor(self, tensor: torch.Tensor) -> None:
        if torch.nn.parameter.is_lazy(tensor):
            self._write("lazy", str(tensor.dtype))
            return
        self._write("tensor", str(tensor.dtype), str(tuple(tensor.shape)))
        self.digest.update(hashlib.sha256(tensor_bytes(tensor)).digest())
        if vars(tensor):
            self._attributes(vars(tensor))

    def _array(self, array: np.ndarray) -> None:
        self._write("array", array.dtype.str, str(array.shape))
        if array.dtype.hasobject:
            self._add_all("objects", array.ravel().tolist())
        else:
            self.digest.update(hashlib.sha256(np.ascontiguousarray(array).tobytes()).digest())

    def _function(self, value: Any) -> None:
        if isinstance(value, CodeType):
            self._write("code", value.co_name, value.co_code.hex(), " ".join((*value.co_names, *value.co_freevars)))
            self._add_all("constants", value.co_consts)
        elif isinstance(value, functools.partial):
            self._add_all("partial", (value.func, value.args, value.keywords))
        elif isinstance(value, MethodType):
            self._add_all("method", (value.__func__, value.__self__))
        elif isinstance(value, BuiltinFunctionType):
            self._write("builtin", value.__qualname__)
        else:
            self._write("function", value.__qualname__)
            if str(value.__module__).split(".")[0] != "torch":
                self._add_all("closure", (_cell_content(cell) for cell in value.__closure__ or ()))
                self._add_all("how", (value.__code__, value.__defaults__, value.__kwdefaults__))

    def _class(self, kind: type) -> None:
        self._write("class", kind.__qualname__)
        if kind.__module__ in self.modules:
            self._add_all("bases", kind.__bases__)
            self._attributes({name: item for name, item in vars(kind).items() if name not in _CLASS_ATTRIBUTES})
        else:
            self._write(kind.__module__)

    def _object(self, value: Any) -> None:
        if type(value).__module__ == "torch._dynamo.eval_frame" and hasattr(value, "_orig_mod"):
            # torch.compile's wrapper differs between processes, so only the network inside is hashed. (Importing its class is slow.)
            self.add(value._orig_mod)
            return
        self.add(type(value))
        if isinstance(value, Mapping):
            self._add_all("keys", value.keys())
            self._add_all("values", value.values())
        elif isinstance(value, Set):
            self._add_all("set", sorted(self._item_sha256(item) for item in value))
        elif isinstance(value, (list, tuple)):
            self._add_all("items", value)
        elif isinstance(value, torch.Generator):
            self._tensor(value.get_state())
        elif isinstance(value, random.Random):
            self.add(value.getstate())
        elif isinstance(value, (property, staticmethod, classmethod)):
            self._add_all("wrapped", (getattr(value, name, None) for name in ("fget", "fset", "__func__")))
        attributes = getattr(value, "__dict__", None)
        slots = {name: getattr(value, name, None) for kind in type(value).__mro__ for name in _slots(kind)}
        if isinstance(value, nn.Module):
            self._attributes({name: item for name, item in vars(value).items() if not _is_empty(name, item)})
        elif isinstance(attributes, dict) or slots:
            self._attributes({**(attributes if isinstance(attributes, dict) else {}), **slots})
        elif not isinstance(value, Collection):
            self._write(re.sub(r"0x[0-9a-fA-F]+", "", repr(value)))

    def _item_sha256(self, item: Any) -> str:
        hasher = _Hasher(self.modules, self.folder)
        hasher.add(item)
        return hasher.digest.hexdigest()

    def _attributes(self, attributes: Mapping[str, Any]) -> None:
        for name in sorted(attributes, key=str):
            self._write("attribute", str(name))
            item = attributes[name]
            # Keys of hooks come from a counter of the whole process, so only the hooks are hashed.
            self.add(list(item.values()) if str(name).endswith(("_hooks", "_hooks_with_kwargs")) and isinstance(item, dict) else item)


def _is_empty(name: str, item: Any) -> bool:
    """Return whether an attribute has the value that it has in an empty module; torch adds attributes with every version."""
    if name not in _EMPTY:
        return False
    return not item if isinstance(item, (dict, set)) else item == _EMPTY[name]


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


def _cell_content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None
