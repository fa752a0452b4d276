"""Door `scales`: scales: TOML files that say at which size `harness reproduce` trains the cells of a paper."""

from __future__ import annotations

import copy
import math
import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

import tomli_w

from harness.reproduction.recipes import derive
from harness.reproduction.scale import Scale, get_scale
from harness.reproduction.specification import get
from model_zoo.training.recipe import Recipe
from tests.fuzz.frame import Door, check_refused, command, refusal
from tests.fuzz.values import NUMBERS, damaged, kind_of, nested, of_another_type, places, set_at, value_at

KINDS = ["value", "type", "type", "type", "number", "missing", "unknown", "step", "nested", "damaged", "damaged"]
VALUES = {
    ("title",): ["", "ü", "a" * 1000, "[bold]x[/bold]", "$x$"],
    ("seed",): [0, 1, 2**31],
    ("hold_out",): [0, 7, 10**6],
    ("select",): ["last", "hold-out"],
    ("attack", "steps"): [1, 50],
    ("attack", "step"): ["1", "3/4", "0.5", "1e-3"],
    ("data", "cifar10", "images"): [1, 1000],
}
STEPS = ["0", "-1/2", "1/0", "1e999999999", "nan", "inf", "", "x", "1/" + "9" * 5000, "٣"]
# Tables that are not parsed before they are used: architectures, schedules and options of stages.
LOOSE = ("architectures", "schedules", "stages")


@cache
def _scales() -> tuple[dict[str, Any], ...]:
    folder = files("harness.reproduction") / "scales"
    return tuple({"seed": 0, **tomllib.loads((folder / name).read_text())} for name in ("small.toml", "paper.toml"))


def case(random: Random, folder: Path) -> None:
    """Make one scale, read it, and derive the recipes of a table at it."""
    path = folder / "mine.toml"
    kind = random.choice(KINDS)
    fields = copy.deepcopy(random.choice(_scales()))
    text, place = None, ()
    if kind == "value":
        place = random.choice(sorted(VALUES))
        set_at(fields, place, random.choice(VALUES[place]))
    elif kind == "type":
        place = random.choice(list(places(fields)))
        set_at(fields, place, of_another_type(random, value_at(fields, place)))
    elif kind == "number":
        place = random.choice([place for place in places(fields) if kind_of(value_at(fields, place)) == "number"])
        set_at(fields, place, random.choice([number for number in NUMBERS if not 0 <= number < 2**63]))
    elif kind == "missing":
        del fields[random.choice(["title", "hold_out", "select", "attack", "fast_attack", "data", "architectures", "schedules"])]
    elif kind == "unknown":
        random.choice([fields, fields["attack"], fields["data"]["cifar10"]])["colour"] = "red"
    elif kind == "step":
        set_at(fields, (random.choice(["attack", "fast_attack"]), "step"), random.choice(STEPS))
    elif kind == "nested":
        text = f"deep = {nested(random)}\n" if random.random() < 0.5 else f"deep = {nested(random, '{a=', '}')}\n"
    content = tomli_w.dumps(fields).encode() if text is None else text.encode()
    path.write_bytes(damaged(random, content) if kind == "damaged" else content)

    read: list[Scale] = []
    error = refusal(lambda: read.append(get_scale(str(path))), path.name)
    if kind == "value":
        assert error is None, f"refused: {error}"
        assert value_at(read[0].model_dump(), place) == value_at(fields, place), "read as another value"
    elif kind in ("missing", "unknown", "step", "nested") or (kind in ("type", "number") and (place[0] not in LOOSE or len(place) < 3)):
        assert error is not None, f"accepted: {kind} {place} {value_at(fields, place) if place else ''!r}"
    if error is not None and random.random() < 0.02:
        check_refused(command("reproduce", "table-1", "--scale", path, "--store", folder / "store"), path.name)
    if error is None:
        error = _derive(random, read[0], place)
        if kind in ("type", "number") and place[:2] == ("schedules", "scores"):
            # Schedules are read as the optimiser of a recipe, whose rates may be as large as anybody wants.
            value = value_at(fields, place)
            assert error is not None or (kind == "number" and 2**63 <= value < math.inf), f"derived with {place} = {value!r}"
    assert not (folder / "store").exists()


def _derive(random: Random, scale: Scale, place: tuple[Any, ...]) -> object:
    """Derive recipes of a table; return the first refusal."""
    refused = None
    settings = (
        get("table-1").trainings()[:1]
        if len(place) > 1 and place[1] == "scores"
        else get(random.choice(["table-1", "table-4", "table-9"])).trainings()
    )
    for item in settings:
        recipes: list[Recipe] = []
        error = refusal(lambda item=item, recipes=recipes: recipes.append(derive(item, scale)), "")  # type: ignore[misc]
        refused = refused or error
        for recipe in recipes:
            assert recipe.attack.steps in (scale.attack.steps, scale.fast_attack.steps) or item.radius == "0", "another number of steps"
            assert recipe.data.hold_out == scale.hold_out, "another number of images held out"
    return refused


DOOR = Door("scales", full=2_000, ci=30, case=case)
