"""Tests that recipes are read strictly: errors name the invalid field or the damaged file."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from model_zoo.errors import DamagedFileError, UnknownNameError, UsageError
from model_zoo.registry import model_ids, package_folder
from model_zoo.training.building import build_model
from model_zoo.training.recipe import Recipe
from tests.model_zoo.training.tiny import recipe

SHIPPED = {path.stem: path for path in package_folder("recipes").glob("*.toml")}


def test_every_shipped_model_has_a_recipe() -> None:
    assert set(model_ids()) <= set(SHIPPED)
    assert all(Recipe.load(path).id == name for name, path in SHIPPED.items())


@pytest.mark.parametrize("name", sorted(name for name in SHIPPED if "rn8" in name))
def test_every_small_recipe_builds_its_network(name: str) -> None:
    chosen = Recipe.load(SHIPPED[name])
    assert sum(parameter.numel() for parameter in build_model(chosen).parameters()) > 10_000
    assert Recipe.from_dict(chosen.to_dict()) == chosen


PGD = {"threat": "Linf 8/255", "step": "1/255", "steps": 2}
SGD = {"kind": "sgd", "learning_rate": 0.1, "epochs": 2, "batch": 50}
ATMC = {"keep_ratio": 0.2, "pretrain_epochs": 1, "admm_epochs": 0}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"family": "prune-binary"}, UnknownNameError, "pruned-binary"),
        ({"options": {"keep_ratio": 0.1}}, UsageError, "allocation_power"),
        ({"options": {"keep_ratio": 0.1, "allocation_power": 0.1, "prune_rate": 0.9}}, UsageError, "prune_rate"),
        ({"sede": 1}, UsageError, "sede"),
        ({"select": "best"}, UsageError, "hold-out"),
        ({"select": "hold-out", "data": {"dataset": "cifar10", "hold_out": 0}}, UsageError, "held-out images"),
        ({"select": "hold-out", "options": {"keep_ratio": 0.1, "allocation_power": 0.1, "stages": 2}}, UsageError, "gradual"),
        ({"attack": {"threat": "L2 1/2", "step": "1/8", "steps": 2}}, UsageError, "Linf"),
        ({"attack": {"threat": "Linf 8/255", "step": "a bit", "steps": 2}}, UsageError, "a bit"),
        ({"attack": {"threat": "Linf 8/255", "step": "1/255", "steps": 1, "method": "trade"}}, UnknownNameError, "trades"),
        ({"attack": {"threat": "Linf 8/255", "step": "1/255", "steps": 2, "method": "n-fgsm"}}, UsageError, "one step"),
        ({"attack": {"threat": "Linf 8/255", "step": "1/255", "steps": 2, "method": "nuat"}}, UsageError, "one step"),
        ({"attack": {"threat": "Linf 8/255", "steps": 2}}, UsageError, "'step' is missing"),
        ({"attack": {"threat": "Linf 8/255", "step": "1/255"}}, UsageError, "at least one step"),
        ({"attack": {"threat": "Linf 8/255", "step": "1/255", "steps": 1, "noise": -1.0}}, UsageError, "noise"),
        ({"attack": {**PGD, "later": [{"epoch": 1, "steps": 3}]}}, UsageError, "'step' is missing"),
        ({"attack": {**PGD, "later": [{"epoch": 1, "steps": 3, "step": "1/255", "size": 1}]}}, UsageError, "no field 'size'"),
        ({"attack": {**PGD, "later": [{"epoch": 1, "steps": 0, "step": "1/255"}]}}, UsageError, "at least one step"),
        ({"attack": {**PGD, "later": [{"epoch": 0, "steps": 3, "step": "1/255"}]}}, UsageError, "rising epochs"),
        ({"attack": {**PGD, "later": [{"epoch": 2, "steps": 3, "step": "1/255"}]}}, UsageError, "before the end of the 2 epochs"),
        ({"attack": {**PGD, "later": [{"epoch": 1, "steps": 3, "step": "1/255"}] * 2}}, UsageError, "rising epochs"),
        (
            {"attack": {"threat": "Linf 8/255", "method": "clean", "later": [{"epoch": 1, "steps": 3, "step": "1/255"}]}},
            UsageError,
            "clean",
        ),
        ({"average": 1.0}, UsageError, "less than 1"),
        ({"average": 0.9, "family": "atmc", "options": ATMC}, UsageError, "cannot be averaged"),
        ({"folder": "somewhere"}, UsageError, "no field 'folder'"),
        ({"optimiser": {**SGD, "schedule": "linear"}}, UsageError, "cosine or one-cycle"),
        ({"optimiser": {**SGD, "schedule": "one-cycle", "milestones": [1]}}, UsageError, "neither milestones nor restarts"),
        ({"optimiser": {**SGD, "schedule": "one-cycle", "warmup": 2.0}}, UsageError, "warm-up of one cycle"),
        ({"optimiser": {"kind": "lion", "learning_rate": 1.0, "epochs": 1, "batch": 8}}, UsageError, "lion"),
        ({"data": {"dataset": "cifar10"}}, UsageError, "hold_out"),
    ],
)
def test_an_invalid_recipe_is_an_error_that_names_the_field(change: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Recipe.from_dict({**recipe().to_dict(), **change})


@pytest.mark.parametrize("option", [{"weight_init": "xavier"}, {"score_fan": "some"}])
def test_an_invalid_initialisation_is_an_error_when_the_network_is_built(option: dict[str, str]) -> None:
    options = {"keep_ratio": 0.1, "allocation_power": 0.1, **option}
    with pytest.raises(UsageError, match=next(iter(option.values()))):
        build_model(recipe(top={"options": options}))


def test_invalid_and_absent_files_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("id = = 1")
    with pytest.raises(DamagedFileError, match=r"mine\.toml"):
        Recipe.load(path)
    with pytest.raises(UsageError, match="no recipe file"):
        Recipe.load(tmp_path / "absent.toml")


def test_the_attack_changes_at_the_given_epochs() -> None:
    later = [{"epoch": 2, "steps": 5, "step": "4/255"}, {"epoch": 5, "steps": 7, "step": "2/255"}]
    chosen = recipe(attack={"later": later}, epochs=8)
    strengths = [chosen.attack.strength(epoch) for epoch in range(8)]
    assert strengths == [(2, 6 / 255)] * 2 + [(5, 4 / 255)] * 3 + [(7, 2 / 255)] * 3
    assert Recipe.from_dict(chosen.to_dict()) == chosen


def test_clean_training_needs_neither_steps_nor_step_size() -> None:
    fields = recipe().to_dict()
    fields["attack"] = {"threat": "Linf 8/255", "method": "clean"}
    chosen = Recipe.from_dict(fields)
    assert chosen.attack.strength(0) == (0, 0.0)
    assert Recipe.from_dict(chosen.to_dict()) == chosen


def test_the_start_file_is_relative_to_the_folder_which_is_not_part_of_the_recipe(tmp_path: Path) -> None:
    fields = {**recipe().to_dict(), "start_from": "mask.safetensors"}
    first, second = Recipe.from_dict(fields, tmp_path), Recipe.from_dict(fields, tmp_path / "elsewhere")
    assert first.start_path == tmp_path / "mask.safetensors"
    assert first == second and first.to_dict() == second.to_dict() and str(tmp_path) not in str(first.to_dict())
    absolute = Recipe.from_dict({**fields, "start_from": str(tmp_path / "mask.safetensors")})
    assert absolute.start_path == tmp_path / "mask.safetensors"
    assert recipe().start_path is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "../../x"}, "an id must consist of lower-case letters"),
        ({"id": "a/b"}, "an id must consist of lower-case letters"),
        ({"id": ""}, "an id must consist of lower-case letters"),
        ({"id": 3}, "id must be text"),
        ({"seed": -1}, "the seed must be from 0"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"seed": True}, "seed must be a whole number"),
        ({"title": ["a"]}, "title must be text"),
        ({"average": "much"}, "average must be a finite number"),
        ({"average": float("nan")}, "average must be a finite number"),
        ({"architecture": "cifar-resnet8"}, "architecture must be a table"),
        ({"optimiser": {"learning_rate": float("nan")}}, "learning_rate must be a finite number"),
        ({"optimiser": {"learning_rate": -0.1}}, "learning_rate must not be negative"),
        ({"optimiser": {"epochs": "9"}}, "epochs must be a whole number"),
        ({"optimiser": {"milestones": 3}}, "milestones must be a list"),
        ({"optimiser": {"milestones": ["3"]}}, "milestones must be a list"),
        ({"data": {"hold_out": -1}}, "leave none of the"),
        ({"data": {"images": 5, "hold_out": 5}}, "leave none of the"),
        ({"data": 3}, "data must be a table"),
        ({"attack": {"steps": 2.5}}, "steps must be a whole number"),
        ({"attack": {"faithful": 1}}, "faithful must be true or false"),
        ({"attack": {"later": [3]}}, "later must be a list"),
    ],
)
def test_fields_of_wrong_type_or_range_are_errors(change: dict[str, object], message: str) -> None:
    fields = tomllib.loads(next(iter(SHIPPED.values())).read_text())
    for name, value in change.items():
        fields[name] = {**fields[name], **value} if isinstance(value, dict) else value
    with pytest.raises(UsageError, match=message):
        Recipe.from_dict(fields)
