"""Door `suites`: TOML files for `harness run` and `plan`."""

from __future__ import annotations

import copy
import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

import tomli_w

from harness.runner.plan import plan_suite
from harness.runner.suite import Suite, read_suite
from tests.fuzz.frame import Door, check_refused, command, refusal
from tests.fuzz.values import NUMBERS, TEXTS, damaged, nested, of_another_type, places, set_at, value_at

KINDS = ["value", "type", "type", "number", "missing", "unknown", "name", "threat", "nested", "damaged", "damaged"]
VALUES = {
    ("title",): ["", "ü", "a" * 1000, "[bold]x[/bold]", "\t"],
    ("seed",): [0, 1, -1, 2**63],
    ("evaluation", 0, "n"): [1, 40, 2**31 - 1],
    ("evaluation", 0, "threats"): [["Linf 8/255"], ["L2 1/2", "Linf:4/255"], ["Linf 0.03"]],
}
THREATS = ["Linf", "8/255", "Linf 9", "Linf -1/255", "Linf 1/0", "L1 1", "Linf nan", "Linf 1e999999999", "L2 inf", "", "L2 " + "9" * 5000]


@cache
def _suites() -> tuple[dict[str, Any], ...]:
    folder = files("harness.runner") / "suites"
    suites = [tomllib.loads(path.read_text()) for path in sorted(folder.iterdir(), key=str) if path.name in ("smoke.toml", "quick.toml")]
    return tuple({"seed": 0, **suite} for suite in suites)


def case(random: Random, folder: Path) -> None:
    """Create one suite, read it, and plan it."""
    path = folder / "mine.toml"
    kind = random.choice(KINDS)
    fields = copy.deepcopy(random.choice(_suites()))
    text, place = None, ()
    if kind == "value":
        place = random.choice(sorted(VALUES, key=str))
        set_at(fields, place, random.choice(VALUES[place]))
    elif kind == "type":
        place = random.choice(list(places(fields)))
        set_at(fields, place, of_another_type(random, value_at(fields, place)))
    elif kind == "number":
        place = random.choice([("seed",), ("evaluation", 0, "n")])
        set_at(fields, place, random.choice([number for number in NUMBERS if number not in (0, -1, 2**31, 2**63, -(2**63) - 1)]))
    elif kind == "missing":
        del fields[random.choice(["title", "models", "evaluation"])]
    elif kind == "unknown":
        random.choice([fields, fields["evaluation"][0]])["colour"] = "red"
    elif kind == "name":
        name = random.choice([text for text in TEXTS if text.isprintable()] + ["no-such-thing", "../x.toml", "x.py:f"])
        set_at(fields, random.choice([("evaluation", 0, "attacks", 0), ("evaluation", 0, "dataset")]), name)
    elif kind == "threat":
        fields["evaluation"][0]["threats"] = [random.choice(THREATS)]
    elif kind == "nested":
        text = f"deep = {nested(random)}\n" if random.random() < 0.5 else f"deep = {nested(random, '{a=', '}')}\n"
    content = tomli_w.dumps(fields).encode() if text is None else text.encode()
    path.write_bytes(damaged(random, content) if kind == "damaged" else content)

    read: list[Suite] = []
    error = refusal(lambda: read.append(read_suite(path)), path.name)
    if kind == "value":
        assert error is None, f"refused: {error}"
        actual = read[0].model_dump()
        assert value_at(actual, place) == value_at(fields, place), "read as another value"
    elif kind == "type":
        # The text "all" is the only text that is valid instead of a list.
        assert error is not None, f"accepted: {place} = {value_at(fields, place)!r}"
    elif kind in ("number", "missing", "unknown", "threat", "nested"):
        assert error is not None, f"accepted: {kind} {fields.get('evaluation')}"
    elif error is None and random.random() < 0.3:
        # Names are checked when the suite is planned.
        error = refusal(lambda: plan_suite(read[0], n=2), "mine" if kind == "name" else "")
        assert error is not None or kind != "name", f"planned: {fields['evaluation'][0]}"
    if error is not None and random.random() < 0.02:
        check_refused(command("plan", "--suite", path, "--store", folder / "store"), "mine")
    assert not (folder / "store").exists()


DOOR = Door("suites", full=2_500, ci=40, case=case)
