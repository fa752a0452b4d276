"""Tests of external documents: any fault is one short line that names the file."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel
from safetensors.numpy import save_file

from model_zoo.documents import parse_json, read_toml, validated
from model_zoo.errors import LINE, DamagedFileError, one_line
from model_zoo.tensor_files import read_tensors
from model_zoo.threat import exact_fraction


class Point(BaseModel, extra="forbid"):
    x: float
    names: tuple[str, ...] = ()


@pytest.mark.parametrize(
    "content",
    [
        b"x = ",
        b"\xff",
        b"x = 1\nx = 2",
        b"x = " + b"9" * 5000,
        b"x = " + b"[" * 500 + b"]" * 500,
        b"x = " + b"[" * 10_000,
        b".".join([b"a"] * 2000) + b" = 1",
    ],
)
def test_invalid_toml_is_a_one_line_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"a\.toml: expected a point in TOML") as raised:
        read_toml(path, "a point")
    assert str(raised.value).isprintable() and len(str(raised.value)) <= LINE


@pytest.mark.parametrize("content", [b"", b"{", b'{"x": 1, "x": 2}', b"[" * 500 + b"]" * 500, b"[" * 100_000, b"\xff"])
def test_invalid_json_is_a_one_line_error(content: bytes) -> None:
    with pytest.raises(DamagedFileError, match=r"a\.json: expected a point in JSON"):
        parse_json(content, Path("a.json"), "a point")


@pytest.mark.parametrize("fields", [{}, {"x": "1"}, {"x": True}, {"x": 1, "y": 2}, {"x": 1, "names": "a"}, {"x": 1, "names": {"a"}}])
def test_fields_of_the_wrong_type_are_named(fields: dict[str, object]) -> None:
    with pytest.raises(DamagedFileError, match=r"a\.toml: expected a point, found (x|y|names|TypeError)"):
        validated(Point, fields, Path("a.toml"), "a point")
    assert validated(Point, {"x": 1, "names": ["a"]}, Path("a.toml"), "a point") == Point(x=1.0, names=("a",))


def test_messages_about_long_or_unprintable_values_are_one_short_line() -> None:
    message = str(DamagedFileError("folder/a\nb", "x" * 10_000, "\x1b[31m" + "y" * 10**6))
    assert message.isprintable() and len(message) <= LINE and message.startswith("folder/a\\nb: expected x")
    assert one_line("short") == "short"


@pytest.mark.parametrize("text", ["", "nan", "inf", "1/0", "1e999999999", "9" * 5000, "1/-2", "8 / 255 x", "0x1"])
def test_a_number_that_is_not_an_exact_fraction_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="fraction"):
        exact_fraction(text)


def test_tensors_are_read_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"x": np.arange(3)}, path, {"name": "value"})
    tensors, metadata = read_tensors(path, "numbers")
    assert tensors["x"].tolist() == [0, 1, 2] and metadata == {"name": "value"}
    path.write_bytes(path.read_bytes()[:-1])
    for damaged in (path, tmp_path / "absent.safetensors"):
        with pytest.raises(DamagedFileError, match=damaged.name):
            read_tensors(damaged, "numbers")
