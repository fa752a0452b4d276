"""Door `recipes`: TOML files of every family for `harness train`."""

from __future__ import annotations

import copy
import math
import tomllib
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import tomli_w
import torch

from model_zoo.errors import UserError
from model_zoo.registry import package_folder
from model_zoo.training.building import build
from model_zoo.training.recipe import Recipe
from model_zoo.training.trainer import train
from tests.fuzz.frame import Door, check_line, check_refused, command, refusal
from tests.fuzz.values import NUMBERS, damaged, kind_of, nested, of_another_type, places, set_at, value_at

KINDS = ["value", "type", "type", "type", "number", "number", "missing", "unknown", "id", "nested", "damaged", "damaged"]
# Fields with values that are valid for every family.
VALUES = {
    ("title",): ["", "ü", "a" * 1000, "[bold]x[/bold]"],
    ("seed",): [0, 1, 2**63 - 1],
    ("optimiser", "learning_rate"): [0, 0.0, 1e-9, 3.0],
    ("optimiser", "batch"): [2, 10_000],
    ("data", "hold_out"): [0, 7, 10**6],
    ("attack", "step"): ["1/255", "0.01", "6/255", "1e-3"],
    ("id",): ["a", "0", "a.b-c", "x" * 200],
}
IDS = ["../../x", "", "A", "a/b", "-a", "a" * 201, "a:b", "a\n", "a\0", "/etc/passwd", ".", ".."]


@cache
def _recipes() -> tuple[dict[str, Any], ...]:
    """Return one recipe per family and method, with a network of four channels."""
    chosen = {}
    for path in sorted(package_folder("recipes").glob("*.toml")):
        fields = tomllib.loads(path.read_text())
        fields["architecture"] = {"name": "cifar-resnet8", "classes": 10, "width": 4, "normalisation": "cifar10"}
        fields.pop("start_from", None)
        chosen.setdefault((fields["family"], fields["attack"].get("method")), fields)
    return tuple(chosen.values())


def case(random: Random, folder: Path) -> None:
    """Create one recipe, read it, and build its network or train it for one step."""
    path = folder / "mine.toml"
    kind = random.choice(KINDS)
    fields = copy.deepcopy(random.choice(_recipes()))
    text, place = None, ()
    if kind == "value":
        place = random.choice([place for place in VALUES if len(place) == 1 or place[1] in fields[place[0]]])
        set_at(fields, place, random.choice(VALUES[place]))
        fields["select"] = "last"
    elif kind in ("type", "number"):
        numbers = kind == "number"
        options = [place for place in places(fields) if not numbers or kind_of(value_at(fields, place)) == "number"]
        place = random.choice(options)
        set_at(fields, place, random.choice(NUMBERS) if numbers else of_another_type(random, value_at(fields, place)))
    elif kind == "missing":
        del fields[random.choice(["id", "title", "family", "seed", "architecture", "data", "attack", "optimiser"])]
    elif kind == "unknown":
        random.choice([fields, fields["data"], fields["attack"], fields["optimiser"], fields.setdefault("options", {})])["colour"] = "red"
    elif kind == "id":
        fields["id"] = random.choice(IDS)
    elif kind == "nested":
        text = f"deep = {nested(random)}\n" if random.random() < 0.5 else f"deep = {nested(random, '{a=', '}')}\n"
    content = tomli_w.dumps(fields).encode() if text is None else text.encode()
    path.write_bytes(damaged(random, content) if kind == "damaged" else content)

    loaded: list[Recipe] = []
    error = refusal(lambda: loaded.append(Recipe.load(path)), path.name)
    if kind == "value":
        assert error is None, f"refused: {error}"
        assert value_at(loaded[0].to_dict(), place) == value_at(fields, place), "read as another value"
    elif kind in ("missing", "unknown", "id", "nested"):
        assert error is not None, f"accepted: {kind} {fields.get('id')!r}"
    elif place and place[0] == "architecture" and place[1:] not in ((), ("classes",)):
        # Only the builder of an architecture knows its other fields.
        pass
    elif kind == "type" or (kind == "number" and not math.isfinite(float_of(value_at(fields, place)))):
        assert error is not None, f"accepted: {place} = {value_at(fields, place)!r}"
    if error is not None:
        if random.random() < 0.02:
            check_refused(command("train", path, "--out", folder / "out"), path.name)
        assert not (folder / "out").exists()
        return
    assert loaded[0].id and "/" not in loaded[0].id
    _use(loaded[0], random)


def _use(recipe: Recipe, random: Random) -> None:
    """Build the network of the recipe, and sometimes train it; the only permitted failure is a one-line error."""
    try:
        build(recipe)
        if random.random() < 0.05 and recipe.optimiser.epochs <= 500 and recipe.attack.steps <= 20:
            generator = np.random.default_rng(0)
            count = min(recipe.data.hold_out, 50) + min(recipe.optimiser.batch, 50)
            train(recipe, generator.integers(0, 256, (count, 32, 32, 3), np.uint8), generator.integers(0, 10, count), report=_stop)
    except UserError as error:
        check_line(str(error), "")
    except _StoppedError:
        pass
    finally:
        torch.set_num_threads(1)


class _StoppedError(Exception):
    pass


def _stop(event: object) -> None:
    raise _StoppedError


def float_of(value: float) -> float:
    """Return a number as a float, infinity if it is too large."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


DOOR = Door("recipes", full=2_500, ci=40, case=case)
