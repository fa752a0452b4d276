"""Tests of hostile and damaged pickles: errors before anything in them is called or anything large is allocated."""

import functools
import os
import pickle
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_zoo.adapters.tf_pickle import Variable, read_variables
from model_zoo.errors import DamagedFileError
from tests.model_zoo.adapters.tensorflow_like import ResourceVariable, pickled

PATH = Path("weights.pickle")
ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_a_variable_is_read_as_name_and_array() -> None:
    variables = [
        ResourceVariable(ARRAY, "vgg16/conv1/T:0"),
        ResourceVariable(np.asfortranarray(ARRAY), "b"),
        ResourceVariable(ARRAY[0], "c"),
    ]
    for protocol in (3, 4, 5):
        loaded = read_variables(PATH, pickled({"param_list": variables}, protocol))["param_list"]
        assert all(isinstance(item, Variable) for item in loaded)
        assert [item.name for item in loaded] == ["vgg16/conv1/T", "b", "c"]
        for item, expected in zip(loaded, (ARRAY, ARRAY, ARRAY[0]), strict=True):
            assert item.value.dtype == np.float32 and np.array_equal(item.value, expected) and item.value.flags.writeable


class Calls:
    """An object that is pickled as a call of `function`."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "hostile",
    [
        Calls(os.system, "touch executed"),
        Calls(eval, "open('executed', 'w')"),
        Calls(functools.partial, os.system, "touch executed"),
        Calls(functools.partial(os.system, "touch executed")),
        Calls(getattr, "text", "upper"),
        Calls(np.load, "executed"),
        Calls(bytearray, 10**12),
        {"param_list": [Calls(open, "executed", "w")]},
    ],
    ids=["system", "eval", "partial", "whole-partial", "getattr", "load", "bytearray", "open"],
)
def test_pickles_that_call_functions_are_errors(hostile: object, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DamagedFileError, match=r"weights\.pickle"):
        read_variables(PATH, pickle.dumps(hostile, protocol))
    assert not list(tmp_path.iterdir())


def text(string: str) -> bytes:
    return b"\x8c" + bytes([len(string)]) + string.encode()


def name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + b"\x93"


PARTIAL = name("functools", "partial")
RESOURCE = name("tensorflow.python.ops.resource_variable_ops", "ResourceVariable")
DTYPE = name("numpy", "dtype") + text("f4") + b"\x85R" + b"(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
FROM_BUFFER = name("numpy._core.numeric", "_frombuffer")


def array(shape: bytes, content: bytes = bytes(8)) -> bytes:
    return FROM_BUFFER + b"(C" + bytes([len(content)]) + content + DTYPE + shape + text("C") + b"tR"


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        # A partial call of another function, with arguments, or with an invalid state.
        (PARTIAL + name("numpy", "ndarray") + b"\x85R", "partial call of another function"),
        (PARTIAL + RESOURCE + b"\x85R" + b"(" + RESOURCE + b"K\x01\x85}Ntb", "partial call of another function"),
        (PARTIAL + RESOURCE + b"\x85R)R", "without name and array"),
        # Calls of objects that only serve as names, and states set on names, which would change how the next file is read.
        (RESOURCE + b")R", "not a function"),
        (name("numpy", "ndarray") + b"K\x02\x85R", "not a function"),
        (FROM_BUFFER + b"}" + text("_make") + RESOURCE + b"s" + b"b", "pickled state"),
        (FROM_BUFFER + b"N}" + text("_make") + RESOURCE + b"s\x86b", "pickled state"),
        # Arrays whose shape or type does not fit their bytes.
        (array(b"K\x02K\x02\x86"), r"shape \[2, 2\] with 8 bytes"),
        (array(b"J\xff\xff\xff\xffJ\xfe\xff\xff\xff\x86"), "without bytes and shape"),
        (array(b"\x8a\x09" + bytes(8) + b"\x01\x85"), "with 8 bytes"),
        (array(text("22")), "without bytes and shape"),
        (array(b"K\x02\x85").replace(text("f4"), text("f8")), "'f8'"),
        (array(b"K\x02\x85").replace(text("f4"), text("O8")), "'O8'"),
        (array(b"K\x02\x85").replace(text("<"), text(">")), "byte order"),
        # Persistent ids, extension codes and legacy call opcodes, which no variable needs.
        (b"K\x01Q", "opcode BINPERSID"),
        (b"\x82\x01", "opcode EXT1"),
        (b"(ios\nsystem\n", "opcode INST"),
        (b"(" + RESOURCE + b"o", "opcode OBJ"),
        (RESOURCE + b")\x81", "opcode NEWOBJ"),
        (b"\x97", "opcode NEXT_BUFFER"),
        # A memo index of four thousand million.
        (b"K\x01r" + struct.pack("<I", 2**32 - 1), "memo"),
        (b"\x95" + struct.pack("<Q", 2**50) + b"K\x01", "frame|FRAME"),
        (b"\x96" + struct.pack("<Q", 2**40), "pickle"),
        (b"\x8e" + struct.pack("<Q", 2**40), "pickle"),
        (b"K\x01.K\x02", "data after its end"),
    ],
    ids=range(25),
)
def test_streams_that_tensorflow_never_writes_are_errors_without_large_allocations(stream: bytes, words: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DamagedFileError, match=words):
            read_variables(PATH, b"\x80\x04" + stream + b".")
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    # The rejected stream has not changed how the next one is read.
    assert np.array_equal(read_variables(PATH, pickled([ResourceVariable(ARRAY, "T")], 5))[0].value, ARRAY)


def test_the_hand_written_array_stream_is_valid() -> None:
    loaded = read_variables(PATH, b"\x80\x04" + array(b"K\x02\x85") + b".")
    assert isinstance(loaded, np.ndarray) and loaded.tolist() == [0.0, 0.0]


def test_a_damaged_pickle_is_a_one_line_error() -> None:
    complete = pickled({"param_list": [ResourceVariable(ARRAY, "T")]})
    for content in (b"", b"not a pickle", complete[:-1], complete[: len(complete) // 2], complete[10:]):
        with pytest.raises(DamagedFileError) as refusal:
            read_variables(PATH, content)
        assert "\n" not in str(refusal.value)
