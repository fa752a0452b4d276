"""Reading of pickled TensorFlow variables as numpy arrays, without TensorFlow and without executing anything.

A variable pickles as a call of `functools.partial(ResourceVariable, initial_value=array, name=..., ...)`. The unpickler knows the seven
names that this needs and replaces each by a plain record. Every opcode that is not needed is rejected before anything is built, and any
other name when it is looked up. Arrays are float32, and their shape must fit the number of bytes.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

import numpy as np

from model_zoo.errors import DamagedFileError

# Opcodes that CPython writes for dictionaries, lists, tuples, texts, numbers, bytes and the calls below, in protocols 2 to 5.
OPCODES = frozenset(
    (
        *("PROTO", "FRAME", "STOP", "MARK", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("APPEND", "APPENDS", "SETITEM", "SETITEMS", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
        *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
        *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    )
)
# Limits for the dimensions of an array and the entries of the memo, far above those of any file of the format.
MOST_DIMENSIONS, MOST_MEMO = 8, 1 << 20


@dataclass(frozen=True)
class Variable:
    """Name of a variable, without the suffix `:0`, and its float32 value."""

    name: str
    value: np.ndarray

    def __setstate__(self, state: object) -> None:
        """Reject a pickle that changes a variable after its construction."""
        _refuse("a variable with a pickled state")


def read_variables(path: Path, content: bytes) -> Any:
    """Return the object in the pickle `content`, with variables as `Variable`; nothing in it is executed.

    Raises
    ------
    DamagedFileError
        If `content` is not a pickle, is cut short, or needs a name or an opcode that pickled variables do not need.
    """
    try:
        _scan(content)
        return _Unpickler(io.BytesIO(content)).load()
    except _RefusedError as refusal:
        raise DamagedFileError(path, "a pickle with only TensorFlow variables", str(refusal)) from None
    except Exception as error:
        # On a damaged stream, pickle and the records below raise about a dozen different exceptions.
        description = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise DamagedFileError(path, "a pickle of TensorFlow variables", description) from None


class _RefusedError(Exception):
    pass


def _refuse(description: str) -> NoReturn:
    raise _RefusedError(description)


def _scan(content: bytes) -> None:
    """Check all opcodes before any is executed; `genops` detects lengths beyond the end of the file."""
    for opcode, argument, position in pickletools.genops(content):
        if opcode.name not in OPCODES:
            _refuse(f"the opcode {opcode.name}")
        if opcode.name == "FRAME" and int(argument or 0) > len(content):
            _refuse("a frame longer than the file")
        if opcode.name == "LONG_BINPUT" and int(argument or 0) > MOST_MEMO:
            _refuse(f"a memo of {argument:,} entries")
        if opcode.name == "STOP" and position != len(content) - 1:
            _refuse("data after its end")


class _Unpickler(pickle.Unpickler):
    """Unpickler that replaces everything that has a name by a record."""

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the records below; any other name is rejected."""
        substitute = _SUBSTITUTES.get((module.replace("numpy._core.", "numpy.core."), name))
        return substitute if substitute is not None else _refuse(f"an object whose code would have to be executed ({module}.{name})")


class _Substitute:
    """Substitute for a known name: an object without attributes that makes a record when called, or is only passed as an argument."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., object] | None = None) -> None:
        self._make = make

    def __call__(self, *arguments: object) -> object:
        return _refuse("a call of an object that is not a function") if self._make is None else self._make(*arguments)

    def __setstate__(self, state: object) -> None:
        _refuse("a function with a pickled state")


# The function in a variable's partial call, and the type of arrays.
RESOURCE_VARIABLE, ND_ARRAY = _Substitute(), _Substitute()


class _Partial:
    """Substitute for `functools.partial(ResourceVariable)`, which gets its arguments as state and is called without arguments."""

    def __init__(self, function: object) -> None:
        self.fields: Mapping[str, Any] = {}
        if function is not RESOURCE_VARIABLE:
            _refuse("a partial call of another function")

    def __setstate__(self, state: Any) -> None:
        function, arguments, keywords, _ = state
        if function is not RESOURCE_VARIABLE or arguments != () or not isinstance(keywords, dict):
            _refuse("a partial call of another function")
        self.fields = keywords

    def __call__(self) -> Variable:
        value, name = self.fields.get("initial_value"), self.fields.get("name")
        array = value.array if isinstance(value, _Array) else value
        if not isinstance(array, np.ndarray) or not isinstance(name, str):
            _refuse("a variable without name and array")
        return Variable(name.partition(":")[0], array)


class _Dtype:
    """Substitute for `numpy.dtype(code, align, copy)`, which gets its byte order as state."""

    def __init__(self, code: object, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        if state[1] != "<":
            _refuse(f"numbers of byte order {state[1]!r}")

    def array(self, content: object, shape: object, fortran: bool) -> np.ndarray:
        """Return the bytes as a float32 array of `shape`."""
        if self.code != "f4":
            _refuse(f"an array of {self.code!r}, but float32 is expected")
        if not isinstance(content, (bytes, bytearray)) or not _is_shape(shape):
            _refuse("an array without bytes and shape")
        if 4 * math.prod(shape) != len(content):
            _refuse(f"an array of shape {list(shape)} with {len(content):,} bytes")
        return np.frombuffer(content, "<f4").reshape(shape, order="F" if fortran else "C").copy("C")


class _Array:
    """Substitute for `numpy.core.multiarray._reconstruct(ndarray, (0,), b"b")`, which gets shape, type and bytes as state."""

    def __init__(self, kind: object, *_: object) -> None:
        if kind is not ND_ARRAY:
            _refuse("an array whose type is pickled separately")
        self.array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _Dtype):
            _refuse("an array without a type")
        self.array = dtype.array(content, shape, bool(fortran))


def _from_buffer(content: object, dtype: object, shape: object, order: object) -> np.ndarray:
    """Substitute for `numpy.core.numeric._frombuffer`, by which protocol 5 pickles arrays."""
    if not isinstance(dtype, _Dtype):
        _refuse("an array without a type")
    return dtype.array(content, shape, order == "F")


def _type_name(name: object) -> object:
    """Substitute for `as_dtype("float32")`, TensorFlow's type of a variable, which the array's type repeats."""
    return name


def _is_shape(shape: object) -> TypeGuard[Sequence[int]]:
    return isinstance(shape, Sequence) and len(shape) <= MOST_DIMENSIONS and all(type(size) is int and size >= 0 for size in shape)


_SUBSTITUTES: Mapping[tuple[str, str], _Substitute] = {
    ("functools", "partial"): _Substitute(_Partial),
    ("tensorflow.python.ops.resource_variable_ops", "ResourceVariable"): RESOURCE_VARIABLE,
    ("tensorflow.python.framework.dtypes", "as_dtype"): _Substitute(_type_name),
    ("numpy.core.multiarray", "_reconstruct"): _Substitute(_Array),
    ("numpy.core.numeric", "_frombuffer"): _Substitute(_from_buffer),
    ("numpy", "ndarray"): ND_ARRAY,
    ("numpy", "dtype"): _Substitute(_Dtype),
}
