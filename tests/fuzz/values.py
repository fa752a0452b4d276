"""Values for documents: wrong types, huge numbers, deep nesting, and bytes damaged at random."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, MutableSequence
from random import Random
from typing import Any

# Path to a value in nested tables and lists, as keys and indices from the outside in.
Place = tuple[Any, ...]

TEXTS = ("", " ", "../../x", "/etc/passwd", "a" * 400, "é", "\x1b[31m", "[bold]", "nan", "0", "\n", "CON", "a:b")
NUMBERS = (0, -1, 10**400, 2**63, -(2**63) - 1, 2**31, 1e308, float("inf"), float("-inf"), float("nan"), -0.0, 0.5)
OTHERS = (True, False, [], {}, [[]], [1, "a"], {"": 1}, [{}])


def places(document: object, at: Place = ()) -> Iterator[Place]:
    """Yield the place of every value in a document, outer ones first, excluding the document itself."""
    items = document.items() if isinstance(document, MutableMapping) else enumerate(document) if isinstance(document, list) else ()
    for key, value in items:
        yield (*at, key)
        yield from places(value, (*at, key))


def value_at(document: Any, place: Place) -> Any:
    """Return the value at a place."""
    for key in place:
        document = document[key]
    return document


def set_at(document: Any, place: Place, value: object) -> None:
    """Set the value at a place."""
    container: MutableSequence[Any] | MutableMapping[Any, Any] = value_at(document, place[:-1])
    container[place[-1]] = value


def of_another_type(random: Random, value: object) -> Any:
    """Return a value of another type (number, text, boolean, list or table) than `value`; never None."""
    kinds = {"text": TEXTS, "number": NUMBERS, "boolean": OTHERS[:2], "list": ([], [[]], [1, "a"], [{}]), "table": ({}, {"": 1}, {"a": {}})}
    del kinds[kind_of(value)]
    return random.choice(kinds[random.choice(sorted(kinds))])


def kind_of(value: object) -> str:
    """Return "text", "number", "boolean", "list" or "table"."""
    if isinstance(value, bool):
        return "boolean"
    return {str: "text", int: "number", float: "number", list: "list", tuple: "list", dict: "table"}[type(value)]


def damaged(random: Random, content: bytes) -> bytes:
    """Return changed bytes: truncated, with a flipped bit, or with bytes overwritten, inserted, repeated or removed."""
    first = random.randrange(len(content))
    last = min(len(content), first + random.randint(1, 64))
    changed = {
        "cut": content[:first],
        "flip": content[:first] + bytes([content[first] ^ (1 << random.randrange(8))]) + content[first + 1 :],
        "overwrite": content[:first] + bytes(random.randrange(256) for _ in range(last - first)) + content[last:],
        "insert": content[:first] + bytes(random.randrange(256) for _ in range(8)) + content[first:],
        "repeat": content[:last] + content[first:],
        "remove": content[:first] + content[last:],
        "zeros": content[:first] + bytes(last - first) + content[last:],
    }[random.choice(["cut", "flip", "flip", "overwrite", "insert", "repeat", "remove", "zeros"])]
    return changed if changed != content else content[:first]


def nested(random: Random, opening: str = "[", closing: str = "]") -> str:
    """Return nested brackets, 300 to 100,000 deep, as in JSON and TOML."""
    depth = random.choice([300, 1_000, 5_000, 100_000])
    return opening * depth + closing * depth
