"""Tests of atomic file creation, errors that name the file, and file names that are valid on every system."""

import errno
import os
from pathlib import Path

import pytest

from model_zoo.files import file_name, is_file_name, place, placing


def test_temporary_names_are_unique_within_a_process(tmp_path: Path) -> None:
    with placing(tmp_path / "a") as first, placing(tmp_path / "a") as second:
        assert first != second
        first.write_text("1")
        second.write_text("2")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("letter", ["a", "é", "漢"])
def test_file_names_may_have_the_maximum_length(letter: str, tmp_path: Path) -> None:
    path = tmp_path / (letter * (255 // len(letter.encode())))
    place(path, b"1")
    assert path.read_bytes() == b"1"


@pytest.mark.parametrize("has_links", [True, False])
def test_a_new_file_does_not_replace_an_existing_one(has_links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: object, target: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    place(tmp_path / "a", b"1", is_new=True)
    with pytest.raises(FileExistsError) as raised:
        place(tmp_path / "a", b"2", is_new=True)
    assert raised.value.filename == str(tmp_path / "a")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"1"]


def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        place(tmp_path / "no" / "a", b"")
    assert raised.value.filename == str(tmp_path / "no" / "a")

    def fill(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(OSError, match="No space left") as full:
        place(tmp_path / "a", b"")
    assert full.value.filename == str(tmp_path / "a") and full.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cifar10_linf-8/255", "cifar10_linf-8-255"),
        ("folder:a b", "folder-a b"),
        ("a.", "a"),
        ("con.toml", "-con.toml"),
        ("LPT1", "-LPT1"),
        ("con .txt", "-con .txt"),
        ("CONIN$", "-CONIN$"),
        ("a\x1b", "a-"),
        ("..", "-"),
        ("a.b-c", "a.b-c"),
    ],
)
def test_names_are_valid_on_windows(text: str, name: str) -> None:
    assert file_name(text) == name and is_file_name(name)
    assert is_file_name(text) == (text == name)
