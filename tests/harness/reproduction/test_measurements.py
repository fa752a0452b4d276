"""Tests of measurements: counted from outcomes, and assigned to cells whose recipe matches that of a registered model."""

import contextlib
from pathlib import Path

import pandas as pd
import pytest

from harness.reproduction.measurements import Measurement, measure, stored
from harness.reproduction.recipes import derive
from harness.reproduction.registered import Registered, recipe_key
from harness.reproduction.scale import get_scale
from harness.reproduction.specification import get, names
from harness.runner.identity import model_sha256
from harness.runner.plan import model_identity
from harness.runner.store import Store
from model_zoo import registry
from model_zoo.errors import UserError
from model_zoo.plugins import RECIPES
from model_zoo.schema import Record
from tests.harness.reporting.conftest import rows

SHIPPED = "cifar10-rn8w32-pruned-binary-k10-p01"
CELL = get("table-2").grid["a = 0.001", "LBN"]


def test_outcomes_are_counted_per_attack_and_without_attack() -> None:
    outcomes = pd.DataFrame(rows("m", "autoattack", "1100000000", clean_wrong=3)).assign(flags="saturated")
    robust = measure(outcomes, "autoattack", "small", 20, ["empty layer"])
    assert (robust.successes, robust.n, robust.planned, robust.attack) == (2, 10, 20, "autoattack")
    assert robust.flags == ("saturated",) and robust.is_empty and robust.value == 0.2
    clean = measure(outcomes, "clean", "small", 10)
    assert (clean.successes, clean.attack, clean.flags, clean.is_empty) == (7, "", (), False)


def test_values_of_one_and_of_several_seeds() -> None:
    assert Measurement(1, 4, "small").values == (0.25,)
    assert Measurement(1, 4, "small", seed_values=(0.25, 0.5)).values == (0.25, 0.5)


def test_a_registered_model_matches_the_cell_of_its_recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    record = registry.get_record(SHIPPED).model_copy(update={"recipe": "cifar10-rn34-pruned-binary-k01-p01"})
    register_only(monkeypatch, record)
    registered = Registered(Store(tmp_path))
    assert registered.record(CELL.settings) is record
    assert registered.record(get("table-1").grid["p = 0.1", "r = 0.99"].settings) is None, "another score scale is another model"
    assert registered.record(get("table-4").grid["AT RN34", "ImageNet-100 FP"].settings) is None, "a scale without these images"
    assert registered.measurement(CELL.settings, "clean") is None, "the store is empty"


def test_shipped_recipes_with_the_papers_settings_match_cells() -> None:
    scale = get_scale("paper")
    derived = set()
    for settings in {cell.settings for name in names() for cell in get(name).grid.values()}:
        with contextlib.suppress(UserError):
            derived.add(recipe_key(derive(settings, scale)))
    shipped = {name: recipe for name, recipe in RECIPES.items() if "the paper's settings" in recipe.title}
    others = {name for name, recipe in shipped.items() if recipe_key(recipe) not in derived}
    assert len(shipped) > 10 and all("trades" in name for name in others), others


def test_outcomes_are_assigned_to_the_matching_cell_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    record = registry.get_record(SHIPPED).model_copy(update={"recipe": "cifar10-rn34-pruned-binary-k01-p01"})
    register_only(monkeypatch, record)
    columns = {"flags": "", "model_sha256": model_sha256(model_identity(record))}
    sample = pd.DataFrame(rows(record.id, "autoattack", "1000")).assign(**columns)
    others = pd.concat(
        [
            pd.DataFrame(rows(record.id, "autoattack", "1111", radius="4/255")).assign(**columns),
            pd.DataFrame(rows(record.id, "pgd", "1111")).assign(**columns),
            pd.DataFrame(rows(record.id, "autoattack", "1111")).assign(flags="", model_sha256="0" * 64),
        ]
    )
    monkeypatch.setattr(Registered, "_outcomes", pd.concat([sample, others], ignore_index=True))
    measurements = stored(Store(tmp_path))
    attacked = measurements(CELL.settings, "autoattack", "paper")
    assert attacked == Measurement(1, 4, "paper", "autoattack", planned=4)
    clean = measurements(CELL.settings, "clean", "paper")
    assert clean is not None and (clean.successes, clean.n) == (3, 4)
    assert measurements(CELL.settings, "autoattack", "small") is None
    full = sample.assign(dataset="cifar10", robust=True)
    monkeypatch.setattr(Registered, "_outcomes", pd.concat([sample, full], ignore_index=True))
    full_measurement = stored(Store(tmp_path))(CELL.settings, "autoattack", "paper")
    assert full_measurement is not None and full_measurement.successes == 4, "the full test set takes precedence over the sample"


def register_only(monkeypatch: pytest.MonkeyPatch, record: Record) -> None:
    """Make `record` the only registered model."""
    monkeypatch.setattr(registry, "model_ids", lambda: [record.id])
    monkeypatch.setattr(registry, "get_record", lambda name: record)
