"""Cells at a scale: which models they need, how those are attacked, and what was measured of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from harness import datasets
from harness.datasets.base import ImageSet
from harness.datasets.training import training_sha256
from harness.reproduction.recipes import derive
from harness.reproduction.scale import Data, Scale, get_scale
from harness.reproduction.settings import Settings
from harness.runner.plan import Plan, Unit, plan_described
from harness.runner.protocol import default_threat
from harness.runner.store import Store, Stored
from harness.runner.training_unit import TrainingUnit, plan_training, training_key
from harness.runner.trainings import TrainingDocument
from model_zoo.errors import DamagedFileError, UserError
from model_zoo.threat import ThreatModel
from model_zoo.training.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd

# Folder of the store of cells, in the store of the registered models.
CELLS = "cells"
# The attack on models that were trained without one, of which only the clean accuracy is reported.
CLEAN_ATTACK = "pgd"


@dataclass(frozen=True)
class Obstacle:
    """Settings of a cell that cannot be measured on this machine, with the reason in one line."""

    settings: Settings
    reason: str


class CellStore:
    """Trainings and outcomes of cells in a store, found by recipe and data: the engine that trained a model does not matter.

    Parameters
    ----------
    store : Store
        Where trainings and outcomes are.
    scale : Scale
        The scale of the cells.
    data_dir : Path, optional
        Folder of the data that does not ship.
    """

    def __init__(self, store: Store, scale: Scale, data_dir: Path | None = None) -> None:
        self.store, self.scale, self.data_dir = store, scale, data_dir
        self._sha256: dict[str, str] = {}
        self._images: dict[str, ImageSet] = {}

    @classmethod
    def open(cls, store: Path, scale: str | Scale, data_dir: Path | None = None) -> CellStore:
        """Return the cells in the folder `CELLS` of a store, at a scale or that of this name; raises the errors of `get_scale`."""
        return cls(Store(store / CELLS), get_scale(scale) if isinstance(scale, str) else scale, data_dir)

    @cached_property
    def documents(self) -> Mapping[str, TrainingDocument]:
        """The store's readable trainings by recipe and data (`training_key`), read once."""
        items = self.store.trainings.read_all()
        return {training_key(item.identity): item for item in items if not isinstance(item, DamagedFileError)}

    def refresh(self) -> None:
        """Read the store's trainings again when they are needed next."""
        self.__dict__.pop("documents", None)

    def training(self, settings: Settings) -> TrainingDocument | None:
        """Return the finished training of a cell's model, or None; raises a UserError if the scale cannot express the settings."""
        return self._training_of(derive(settings, self.scale))

    def _training_of(self, recipe: Recipe) -> TrainingDocument | None:
        name = recipe.data.dataset
        if name not in self._sha256:
            self._sha256[name] = training_sha256(name, self.data_dir)
        return self.documents.get(training_key({"training": recipe.to_dict(), "data": self._sha256[name]}))

    def missing_trainings(self, settings: Iterable[Settings], device: str = "cpu") -> tuple[list[TrainingUnit], list[Obstacle]]:
        """Return the trainings that are missing, and the settings that cannot be trained here, with the reason."""
        units, obstacles = [], []
        for item in dict.fromkeys(settings):
            try:
                recipe = derive(item, self.scale)
                if self._training_of(recipe) is None:
                    units.append(plan_training(recipe, self.data_dir, device, self.scale.data[item.dataset].curve))
            except UserError as error:
                obstacles.append(Obstacle(item, str(error)))
        return units, obstacles

    def attacks(self, settings: Iterable[Settings]) -> Plan:
        """Return the plan of the attacks on the trained models among `settings`."""
        units: list[Unit] = []
        for item in dict.fromkeys(settings):
            try:
                units += self.units(item)
            except UserError:
                continue
        return Plan(tuple(units))

    def units(self, settings: Settings) -> Sequence[Unit]:
        """Return the units that attack a cell's model; none if it is not trained.

        Raises
        ------
        UserError
            If the scale cannot express the settings, or the test images are not on this machine.
        """
        document = self.training(settings)
        return () if document is None else self._units_of(document, settings)

    def _units_of(self, document: TrainingDocument, settings: Settings) -> Sequence[Unit]:
        record, data = document.model(), self.scale.data[settings.dataset]
        is_clean = settings.radius == "0"
        family = datasets.describe(data.test).family
        # Clean accuracy is read from a unit at the protocol's radius: every unit stores whether the clean image is right.
        threat = default_threat("Linf", family) if is_clean else ThreatModel("Linf", Fraction(settings.radius))
        reference = str(self.store.trainings.record_path(document))
        attack = CLEAN_ATTACK if is_clean else data.attack
        images = self._test_images(data)
        return plan_described({reference: record}, [attack], images, family, [threat], 0, "auto").units

    def _test_images(self, data: Data) -> ImageSet:
        if data.test not in self._images:
            self._images[data.test] = datasets.load(data.test, self.data_dir, data.images)
        return self._images[data.test]

    def outcomes(self, settings: Settings) -> tuple[pd.DataFrame | None, int, tuple[str, ...]]:
        """Return the stored outcomes of a cell's model, the number of images that were planned, and marks of the model.

        The outcomes are None if nothing is stored; marks are those of the training.
        """
        import pandas as pd

        document = self.training(settings)
        if document is None:
            return None, 0, ()
        units = self._units_of(document, settings)
        frames = [item.frame for item in map(self._read, units) if item is not None]
        planned = sum(len(unit.block) for unit in units)
        return (pd.concat(frames, ignore_index=True) if frames else None), planned, document.marks

    def _read(self, unit: Unit) -> Stored | None:
        """Return a stored unit; None if it is absent, damaged, declared invalid, or its attack was at fault."""
        try:
            item = self.store.read(unit.id)
        except (DamagedFileError, FileNotFoundError):
            return None
        return None if item.manifest.invalid is not None or item.manifest.at_fault else item
