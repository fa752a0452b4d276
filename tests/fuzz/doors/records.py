"""Door `records`: TOML records of models for `harness show`, `run` and `footprint`."""

from __future__ import annotations

import copy
import tomllib
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import tomli_w

from model_zoo.registry import package_folder, read_record
from model_zoo.schema import Record
from tests.fuzz.frame import Door, check_refused, command, refusal
from tests.fuzz.values import damaged, nested, of_another_type, places, set_at, value_at

MODEL = "cifar10-rn8s29-dense"
# Free text fields, for which every value is valid.
TEXTS = (("title",), ("method",), ("selected_on",), ("training", "machine"))
OUTSIDE = ("../x.safetensors", "/etc/passwd", "a/b", "..", ".", "", "a\\b", "C:\\x", "a\0b", "\x1b[31m", "x" * 400)


@cache
def _valid() -> dict[str, Any]:
    return tomllib.loads((package_folder("records") / f"{MODEL}.toml").read_text())


def case(random: Random, folder: Path) -> None:
    """Create one record and read it."""
    path = folder / f"{MODEL}.toml"
    kind = random.choice(["value", "type", "type", "missing", "unknown", "file", "nested", "damaged", "damaged", "id"])
    fields = copy.deepcopy(_valid())
    expected = None
    text = None
    if kind == "value":
        set_at(fields, random.choice(TEXTS), random.choice(["", "ü", "a" * 1000, "x [bold]y[/bold]", '"""']))
        expected = Record.model_validate(fields)
    elif kind == "type":
        # The valid fields of an architecture depend on its name; they are checked when the model is loaded.
        place = random.choice([place for place in places(fields) if place[0] != "architecture" or len(place) == 1])
        set_at(fields, place, of_another_type(random, value_at(fields, place)))
    elif kind == "missing":
        del fields[random.choice([name for name in fields if Record.model_fields[name].is_required()])]
    elif kind == "unknown":
        section = random.choice([fields, fields["data"], fields["threat"], fields["training"], fields["checkpoint"]])
        section["colour"] = "red"
    elif kind == "file":
        fields["checkpoint"]["file"] = random.choice(OUTSIDE)
    elif kind == "id":
        fields["id"] = random.choice(["../../x", "", "A", "a/b", "-a", "a" * 400, "a:b", "a\n", "con"])
    elif kind == "nested":
        text = f"deep = {nested(random)}\n" if random.random() < 0.5 else f"deep = {nested(random, '{a=', '}')}\n"
    content = tomli_w.dumps(fields).encode() if text is None else text.encode()
    if kind == "damaged":
        content = damaged(random, content)
        expected = _as_toml(content)
    path.write_bytes(content)
    if expected is not None:
        assert read_record(path) == expected, "read as another record"
    elif random.random() < 0.02:
        check_refused(command("show", path), path.name)
    else:
        assert refusal(lambda: read_record(path), path.name) is not None, f"accepted: {kind}"


def _as_toml(content: bytes) -> Record | None:
    """Return the record that damaged bytes still contain according to the schema; None if they are not a record of this name."""
    try:
        record = Record.model_validate(tomllib.loads(content.decode()), strict=True)
    except (ValueError, RecursionError):
        return None
    return record if record.id == MODEL else None


DOOR = Door("records", full=2_000, ci=60, case=case)
