"""Measurements of registered models at paper scale: a model is that of a cell if its recipe is the one that the cell derives."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from harness.reproduction.measurements import PAPER, Measurement, measure
from harness.reproduction.recipes import derive
from harness.reproduction.scale import Data, get_scale
from harness.reproduction.settings import Settings
from harness.runner.identity import model_sha256
from harness.runner.plan import model_identity
from harness.runner.results import find
from harness.runner.store import Store
from harness.runner.training_unit import training_key
from model_zoo import registry
from model_zoo.errors import UserError
from model_zoo.plugins import RECIPES
from model_zoo.schema import Record
from model_zoo.training.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd


class Registered:
    """Registered models that were trained with the paper's settings, and their outcomes in a store."""

    def __init__(self, store: Store) -> None:
        self.store, self.scale = store, get_scale(PAPER)
        self._by_settings: dict[Settings, Record | None] = {}

    def measurement(self, settings: Settings, measured: str) -> Measurement | None:
        """Return the accuracy of the model of a cell ("autoattack" or "clean"); None if it is not registered or has no outcomes."""
        record = self.record(settings)
        if record is None:
            return None
        data = self.scale.data[settings.dataset]
        # The full test images count before the sample.
        for dataset in (data.test, f"{data.test}-sample"):
            outcomes = self._select(record, dataset, settings, data)
            if len(outcomes):
                return measure(outcomes, measured, PAPER, len(outcomes))
        return None

    def record(self, settings: Settings) -> Record | None:
        """Return the record of the registered model whose recipe is that of a cell at paper scale; None if there is none."""
        if settings not in self._by_settings:
            try:
                self._by_settings[settings] = self._records.get(recipe_key(derive(settings, self.scale)))
            except UserError:
                self._by_settings[settings] = None
        return self._by_settings[settings]

    def _select(self, record: Record, dataset: str, settings: Settings, data: Data) -> pd.DataFrame:
        frame = self._outcomes
        if frame.empty:
            return frame
        is_model = frame["model_sha256"] == model_sha256(model_identity(record))
        chosen = frame[is_model & (frame["dataset"] == dataset) & (frame["attack"] == data.attack) & (frame["norm"] == "Linf")]
        return chosen if settings.radius == "0" else chosen[chosen["radius"] == settings.radius]

    @cached_property
    def _records(self) -> Mapping[str, Record]:
        records = {}
        for name in registry.model_ids():
            try:
                record = registry.get_record(name)
                if record.recipe in RECIPES.names():
                    records[recipe_key(RECIPES.get(record.recipe))] = record
            except UserError:
                continue
        return records

    @cached_property
    def _outcomes(self) -> pd.DataFrame:
        return find(self.store.read_all()).outcomes


def recipe_key(recipe: Recipe) -> str:
    """Return what decides the weights that a recipe trains."""
    return training_key({"training": recipe.to_dict(), "data": recipe.data.dataset})
