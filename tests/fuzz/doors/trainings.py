"""Door `trainings`: trainings of a store's cells: documents, packs of them and states of unfinished runs, whole or changed by somebody."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import torch

from harness.api.listing import count_cells, list_cells
from harness.datasets import load_training
from harness.reproduction.cells import CELLS, CellStore
from harness.reproduction.scale import read_scale
from harness.reproduction.specification import get
from harness.runner.identity import unit_id
from harness.runner.merge import merge
from harness.runner.packing import pack
from harness.runner.store import Store
from harness.runner.trainings import PACKED
from harness.runner.verify import verify
from harness.runner.work import run_unit
from model_zoo.errors import DamagedFileError, UserError
from model_zoo.training.recipe import Recipe
from model_zoo.training.state import state_path
from model_zoo.training.trainer import finished, train
from tests.fuzz.frame import Door, check_line, command, refusal, tree_sha256
from tests.fuzz.values import damaged, nested, of_another_type, places, set_at, value_at

SCALE = Path(__file__).parents[2] / "harness" / "reproduction" / "tiny.toml"
# What is free: recipes and architectures have readers of their own, and an environment is for people.
FREE = (("identity", "training"), ("record", "architecture"), ("environment",))
CURVES = ("", "epoch\n", "a,b\n1,2\n", "\0", "epoch,epoch\n1,2\n")


def case(random: Random, folder: Path) -> None:
    """Change one file of a store of cells, or the state of a training, and read it."""
    if random.random() < 0.25:
        _state(random, folder)
        return
    working, packed, original = _pristine()
    is_packed = random.random() < 0.35
    root = folder / CELLS
    shutil.copytree(packed if is_packed else working, root)
    content = copy.deepcopy(original)
    kind = random.choice(["damaged", "type", "type", "missing", "identity", "record", "curve", "nested", "other", "same"])
    _change(random, kind, content)
    path = root / PACKED if is_packed else next((root / "trainings").glob("*.json"))
    if kind == "damaged":
        path.write_bytes(damaged(random, path.read_bytes()))
    elif kind == "nested":
        path.write_bytes(_packed(nested(random)) if is_packed else nested(random).encode())
    elif is_packed:
        twice = [content] * (2 if kind == "other" else 1)
        path.write_bytes(_packed(json.dumps({"schema": 1, "trainings": twice})))
    elif kind == "other":
        path = path.rename(path.with_name(f"{random.choice(['0' * 64, 'x', path.stem.upper()])}.json"))
    else:
        path.write_text(json.dumps(content))
    _read(random, folder, path, kind, original)


def _read(random: Random, folder: Path, path: Path, kind: str, original: dict[str, Any]) -> None:
    store, target = Store(folder / CELLS), Store(folder / "target")
    before = tree_sha256(store.root)
    items = list(store.trainings.read_all())
    for item in items:
        if isinstance(item, DamagedFileError):
            check_line(str(item), path.name)
        else:
            is_same = all(getattr(item, name) == original[name] for name in ("training", "identity", "curve"))
            # Words for people have no hash.
            assert kind == "damaged" or is_same, "read as another training"
    problems = verify(store).problems
    for line in problems:
        check_line(line, "")
    if kind == "same":
        assert not problems and len(items) == 1, problems
    elif kind != "damaged":
        assert any(path.name in line for line in problems), f"{kind}: verify passes {path.name}: {problems}"
    cells = CellStore(store, read_scale(SCALE))
    settings = get("table-1").trainings()[:1]
    try:
        cells.outcomes(settings[0])
        cells.missing_trainings(settings)
        cells.attacks(settings)
    except UserError as error:
        check_line(str(error), "")
    count_cells(folder)
    errors: list[UserError] = []
    rows = list_cells(folder, errors.append)
    assert kind == "damaged" or len(rows) == (kind == "same"), f"{kind}: {len(rows)} cells listed"
    merged = merge(target, store)
    for line in merged.damaged:
        check_line(line, "")
    assert merged.trainings == len(rows), "merged another number than is listed"
    if random.random() < 0.02:
        for words in (("reproduce",), ("reproduce", "table-1"), ("ls", "cells")):
            result = command(*words, "--store", folder)
            assert result.exception is None or isinstance(result.exception, SystemExit), f"{words}: {result.exception!r}"
    assert tree_sha256(store.root) == before, "reading changed the store"


def _change(random: Random, kind: str, content: dict[str, Any]) -> None:
    """Change a document in place in a way that must be noticed, if the kind is about its content."""
    if kind == "type":
        options = [place for place in places(content) if not any(place[: len(free)] == free for free in FREE)]
        place = random.choice([place for place in options if value_at(content, place) is not None])
        set_at(content, place, of_another_type(random, value_at(content, place)))
    elif kind == "missing":
        name = random.choice(["training", "identity", "recipe", "record", "curve", "seconds"])
        del content[name]
    elif kind == "identity":
        part = random.choice(["training", "data", "engine", "protocol"])
        del content["identity"][part]
        if random.random() < 0.5:
            content["training"] = unit_id(content["identity"])
    elif kind == "record":
        change: dict[str, Any] = random.choice([{"id": "another"}, {"checkpoint": {}}, {"colour": "red"}, {"weights_sha256": "x"}])
        content["record"] |= change
        if "checkpoint" in change and random.random() < 0.5:
            content["record"]["checkpoint"] = {"file": "../../x", "sha256": "0" * 64, "bytes": 1}
    elif kind == "curve":
        content["curve"] = random.choice([*CURVES, content["curve"].replace("0", "x", 1), content["curve"] + "1,2\n"])


def _state(random: Random, folder: Path) -> None:
    """Change the state of a finished run, and read the model from it."""
    recipe, content, written = _run()
    path = state_path(folder, recipe.id)
    kind = random.choice(["damaged", "damaged", "missing", "type", "recipe", "version", "same"])
    state = dict(torch.load(written, weights_only=True))
    if kind == "missing":
        del state[random.choice(["recipe", "model", "curve", "format", "version"])]
    elif kind == "type":
        state[random.choice(["recipe", "model", "curve", "format", "version"])] = random.choice([None, 1.5, "x", [], {}, [[1]], b"x"])
    elif kind == "recipe":
        state["recipe"] = {**state["recipe"], "seed": 77}
    elif kind == "version":
        state["version"] = random.choice([99, -1, "1", None])
    torch.save(state, path)
    if kind == "damaged":
        path.write_bytes(damaged(random, content))
    read: list[Any] = []
    error = refusal(lambda: read.append(finished(recipe, path)), path.name)
    if kind in ("same", "damaged"):
        # An archive has checksums for its tensors only.
        assert kind == "damaged" or error is None, f"refused: {error}"
    else:
        assert error is not None or read == [None], f"accepted: {kind}"


@cache
def _run() -> tuple[Recipe, bytes, Path]:
    """Return a recipe and the state after its last epoch."""
    recipe = _unit().recipe
    images = load_training(recipe.data.dataset)
    path = Path(_folder().name) / "run.state.pt"
    train(recipe, images.images, images.labels, state=path, engine=_unit().engine)
    return recipe, path.read_bytes(), path


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder that is removed at exit."""
    return tempfile.TemporaryDirectory(prefix="fuzz")


@cache
def _unit() -> Any:
    cells = CellStore(Store(Path("absent")), read_scale(SCALE))
    units, obstacles = cells.missing_trainings(get("table-1").trainings()[:1])
    assert not obstacles, obstacles
    return units[0]


@cache
def _pristine() -> tuple[Path, Path, dict[str, Any]]:
    """Return the folders of a store with one training, working and packed, and the training's document."""
    root = Path(_folder().name)
    working, packed = Store(root / "working"), Store(root / "packed")
    assert run_unit(_unit(), working).kind == "finished"
    shutil.rmtree(working.root / "claims", ignore_errors=True)
    shutil.copytree(working.root, packed.root)
    pack(packed)
    shutil.rmtree(packed.trainings.folder)
    (path,) = (working.root / "trainings").glob("*.json")
    return working.root, packed.root, json.loads(path.read_text())


def _packed(text: str) -> bytes:
    return pa.Codec("zstd").compress(text.encode(), asbytes=True)


DOOR = Door("trainings", full=2_000, ci=10, case=case, seconds=600)
