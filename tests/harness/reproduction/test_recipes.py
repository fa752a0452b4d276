"""Tests of derived recipes: at the paper's scale they equal the shipped recipe files; impossible settings are errors."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from harness.reproduction.recipes import RULES, derive
from harness.reproduction.scale import get_scale, read_scale
from harness.reproduction.settings import Settings
from harness.reproduction.specification import get
from model_zoo.errors import DamagedFileError, MissingDataError, UnknownNameError, UsageError
from model_zoo.training.recipe import Recipe, recipe_path

OURS = {"method": "ours", "weights": "binary", "strategy": "adaptive", "keep_ratio": 0.01, "p": 0.1, "last_bn": True, "score_scale": 0.001}


def settings(**fields: Any) -> Settings:
    return Settings(**{"architecture": "rn34", "dataset": "cifar10", "radius": "8/255", **fields})


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("cifar10-rn34-pruned-binary-k01-p01", OURS),
        ("cifar10-rn34-pruned-binary-k01-p01-fast", {**OURS, "method": "ours-fast"}),
        ("cifar10-rn18-pruned-binary-k01-p01", {**OURS, "architecture": "rn18", "score_scale": 0.01}),
        ("cifar100-rn34-pruned-binary-k01-p01", {**OURS, "dataset": "cifar100", "radius": "4/255"}),
        ("cifar10-rn34-dense", {"method": "at", "weights": "fp", "last_bn": True}),
        ("cifar10-rn34-dense-no-lbn", {"method": "at", "weights": "fp"}),
        ("cifar10-rn34-dense-binary-no-lbn", {"method": "at", "weights": "binary"}),
        ("cifar10-small-rn34-p01-dense", {"method": "at", "weights": "fp", "architecture": "small-rn34-p0.1"}),
        ("cifar10-small-rn34-p01-dense-binary", {"method": "at", "weights": "binary", "architecture": "small-rn34-p0.1"}),
    ],
)
def test_paper_scale_gives_the_shipped_recipes(name: str, fields: dict[str, Any]) -> None:
    derived = derive(settings(**fields), get_scale("paper")).to_dict()
    registered = Recipe.load(recipe_path(name)).to_dict()
    for field in ("id", "title"):
        del derived[field], registered[field]
    assert derived == registered


def test_clean_training_has_no_attack_and_is_selected_by_clean_accuracy() -> None:
    recipe = derive(settings(**{**OURS, "radius": "0"}), get_scale("small"))
    assert (recipe.attack.method, recipe.attack.threat) == ("clean", "Linf 0/255")
    assert recipe.attack.strength(0) == (0, 0.0)


def test_step_size_is_a_fraction_of_the_radius() -> None:
    recipe = derive(settings(**{**OURS, "dataset": "cifar100", "radius": "4/255"}), get_scale("paper"))
    assert (recipe.attack.threat, recipe.attack.step) == ("Linf 4/255", "1/255")


def test_signed_constant_initialisation_uses_the_scores_of_edge_popup() -> None:
    recipe = derive(settings(**{**OURS, "init": "signed-constant", "score_scale": None}), get_scale("small"))
    assert {name: recipe.options[name] for name in ("weight_init", "score_scale", "score_fan")} == {
        "weight_init": "signed-constant-scaled",
        "score_scale": 1.0,
        "score_fan": "all",
    }


def test_all_cells_of_a_scale_train_for_the_same_epochs() -> None:
    scale = get_scale("small")
    schedules = [*scale.schedules.values(), *(stages["schedule"] for stages in scale.stages.values())]
    assert {schedule["epochs"] for schedule in schedules} == {5}


@pytest.mark.parametrize("table", ["table-1", "table-2", "table-3", "table-8"])
def test_the_small_scale_covers_the_tables_of_the_method(table: str) -> None:
    for item in get(table).trainings():
        assert derive(item, get_scale("small")).optimiser.epochs == 5


def test_the_small_scale_covers_the_cifar_10_cells_of_the_comparison() -> None:
    recipes = [derive(item, get_scale("small")) for item in get("table-9").trainings(columns=["CIFAR-10"])]
    assert len(recipes) == 54
    assert {recipe.family for recipe in recipes} == {rule.family for rule in RULES.values()}


def test_seeds_are_added_to_the_seed_of_the_scale() -> None:
    assert derive(settings(**OURS, seed=2), get_scale("paper")).seed == 1236


def test_missing_data_and_rules_are_errors_that_name_them() -> None:
    with pytest.raises(MissingDataError, match="scale small has no images of imagenet100"):
        derive(settings(**{**OURS, "dataset": "imagenet100", "radius": "2/255"}), get_scale("small"))
    with pytest.raises(MissingDataError, match="no counterpart of the architecture rn50"):
        derive(settings(**{**OURS, "architecture": "rn50"}), get_scale("small"))
    with pytest.raises(UsageError, match="no family trains ours with fp weights"):
        derive(settings(**{**OURS, "weights": "fp"}), get_scale("small"))


def test_an_unknown_scale_error_has_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="small"):
        get_scale("smal")


def test_an_invalid_scale_is_an_error_that_names_the_field(tmp_path: Any) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('title = "x"\nhold_out = "many"\nselect = "last"\n')
    with pytest.raises(DamagedFileError, match="hold_out"):
        read_scale(path)


def test_contradictory_settings_are_errors() -> None:
    with pytest.raises(ValueError, match="allocation power"):
        settings(method="ours", weights="binary", strategy="adaptive", keep_ratio=0.01)
    with pytest.raises(ValueError, match="keep ratio"):
        settings(method="ours", weights="binary", keep_ratio=0.01)


def test_slugs_of_different_settings_differ() -> None:
    variants = [{}, {"p": 1.0}, {"keep_ratio": 0.5}, {"last_bn": False}, {"score_scale": 0.1}, {"seed": 1}, {"radius": "0"}]
    variants.append({"init": "signed-constant", "score_scale": None})
    slugs = [settings(**{**OURS, **variant}).slug for variant in variants]
    assert len(set(slugs)) == len(slugs)


@pytest.mark.parametrize("step", ["0", "-1/2", "1/0", "1e999999999", "nan", "x"])
def test_a_step_that_is_not_a_positive_fraction_is_an_error(step: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((files("harness.reproduction") / "scales" / "small.toml").read_text().replace('step = "3/4"', f'step = "{step}"'))
    with pytest.raises(DamagedFileError, match=r"mine\.toml.*attack\.step"):
        get_scale(str(path))


def test_a_scale_without_the_schedule_of_a_method_is_an_error_that_names_it() -> None:
    scale = get_scale("small").model_copy(update={"schedules": {}})
    with pytest.raises(MissingDataError, match="no schedule 'scores'"):
        derive(get("table-1").trainings()[0], scale)
