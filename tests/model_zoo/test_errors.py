"""Tests of error messages: one printable line of at most 300 characters."""

import copy

from model_zoo.errors import DamagedFileError, UsageError, UserCodeError


def test_control_characters_are_escaped() -> None:
    assert str(UsageError("no folder a\nb\x1b[31m\udcff: é")) == r"no folder a\nb\x1b[31m\udcff: é"
    assert str(DamagedFileError("a\tb", "x", "y")) == r"a\tb: expected x, found y"


def test_long_messages_keep_their_beginning_and_end() -> None:
    text = str(DamagedFileError("/begin/" + 400 * "a", "one thing", "another"))
    assert len(text) <= 300 and text.startswith("/begin/") and text.endswith("expected one thing, found another")


def test_copies_have_the_same_message() -> None:
    error = copy.copy(UserCodeError("model failed: \x1b", "trace"))
    assert str(error) == r"model failed: \x1b" and error.trace == "trace"
