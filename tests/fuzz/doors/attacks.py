"""Door `attacks`: TOML files of attack parameters for `harness run --attack`."""

from __future__ import annotations

import copy
import tomllib
from fractions import Fraction
from functools import cache
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

import tomli_w
import torch
from torch import nn

from harness import attacks
from harness.attacks.common import AttackCall
from harness.attacks.spec import AttackSpec, check_parameters, load
from model_zoo.threat import ThreatModel
from tests.fuzz.frame import Door, check_refused, command, refusal
from tests.fuzz.values import NUMBERS, TEXTS, damaged, kind_of, nested, of_another_type, places, set_at, value_at

KINDS = ["value", "type", "type", "type", "number", "number", "text", "missing", "unknown", "nested", "damaged", "damaged"]
# Few steps, so that the attack can run.
SMALL = {"steps": 2, "restarts": 1, "apgd_n_iter": 2, "fab_n_iter": 2, "square_n_queries": 3, "queries": 3, "targets": 2}


@cache
def _attacks() -> tuple[dict[str, Any], ...]:
    specs = [tomllib.loads(path.read_text()) for path in sorted((files("harness.attacks") / "specs").iterdir(), key=str)]
    for spec in specs:
        spec["parameters"] |= {name: value for name, value in SMALL.items() if name in spec["parameters"]}
    return tuple(spec for spec in specs if spec["adapter"] != "transfer")


class _Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.linspace(-1, 1, 10 * 192).view(10, 192).sin())

    weight: torch.Tensor

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) @ self.weight.T


def case(random: Random, folder: Path) -> None:
    """Create one specification, read it, and sometimes run the attack on two images."""
    fields = copy.deepcopy(random.choice(_attacks()))
    path = folder / f"{fields['name']}.toml"
    kind = random.choice(KINDS)
    text, place = None, ()
    numbers = [place for place in places(fields) if kind_of(value_at(fields, place)) == "number"]
    if kind == "value":
        place = random.choice(numbers)
        is_whole = isinstance(value_at(fields, place), int)
        set_at(fields, place, random.choice([1, 2, 3]) if is_whole else random.choice([0.5, 1, 1e-6]))
    elif kind == "type":
        place = random.choice(list(places(fields)))
        set_at(fields, place, of_another_type(random, value_at(fields, place)))
    elif kind == "number":
        place = random.choice(numbers)
        set_at(fields, place, random.choice(NUMBERS))
    elif kind == "text":
        place = random.choice([place for place in places(fields) if kind_of(value_at(fields, place)) == "text" and place != ("title",)])
        set_at(fields, place, random.choice([*TEXTS, "1e999999999", "1/0", "-1/20", "9" * 5000]))
    elif kind == "missing":
        container = random.choice([fields, fields["parameters"]])
        del container[random.choice([name for name in container if name != "title"])]
    elif kind == "unknown":
        random.choice([fields, fields["parameters"]])["colour"] = "red"
    elif kind == "nested":
        text = f"deep = {nested(random)}\n" if random.random() < 0.5 else f"deep = {nested(random, '{a=', '}')}\n"
    content = tomli_w.dumps(fields).encode() if text is None else text.encode()
    path.write_bytes(damaged(random, content) if kind == "damaged" else content)

    read: list[AttackSpec] = []
    error = refusal(lambda: read.append(load(path)), path.name)
    if error is None:
        error = refusal(lambda: check_parameters(read[0]), path.stem)
    if kind == "value":
        assert error is None, f"refused: {error}"
        assert place[0] != "parameters" or value_at(read[0].parameters, place[1:]) == value_at(fields, place), "read as another value"
    elif kind in ("type", "missing", "unknown", "nested"):
        assert error is not None, f"accepted: {kind} {place and (place, value_at(fields, place))}"
    elif kind == "number" and not 0 <= value_at(fields, place) <= 2**63:
        assert error is not None, f"accepted: {place} = {value_at(fields, place)}"
    if error is not None:
        if random.random() < 0.005:
            arguments = ("--model", "cifar10-rn8s29-dense", "--attack", path, "--dataset", "cifar10-sample", "--n", 1)
            check_refused(command("plan", *arguments, "--store", folder / "store"), path.stem)
        assert not (folder / "store").exists()
    elif random.random() < 0.05 and all(value <= 20 for name, value in read[0].parameters.items() if name in SMALL):
        threat = ThreatModel(read[0].norm, Fraction(8, 255))
        images = torch.linspace(0, 1, 2 * 192).view(2, 3, 8, 8)
        refusal(lambda: attacks.run(read[0], AttackCall(_Tiny(), images, torch.tensor([0, 1]), threat, 0), 10), "")


DOOR = Door("attacks", full=2_500, ci=40, case=case)
