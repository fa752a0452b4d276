"""Training as a unit of work: planned, claimed, resumed and stored like an attack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.datasets.training import training_sha256
from harness.runner import protocol
from harness.runner.identity import canonical_json, unit_id
from model_zoo.training.engine import resolve_engine
from model_zoo.training.recipe import Recipe


@dataclass(frozen=True)
class TrainingUnit:
    """One model to train.

    `test` names images that join the curve and influence nothing else, `data_dir` the folder of all images. Both are outside the identity,
    as the recipe's id and title are.
    """

    recipe: Recipe
    data_sha256: str
    engine: str
    data_dir: Path | None = None
    test: str | None = None

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that the trained weights depend on, as plain JSON values."""
        return {"protocol": protocol.VERSION, "training": _unnamed(self.recipe.to_dict()), "data": self.data_sha256, "engine": self.engine}

    @cached_property
    def id(self) -> str:
        """sha256 of the identity, in hex."""
        return unit_id(self.identity)

    def __str__(self) -> str:
        return f"training of {self.recipe.id}"


def training_key(identity: Mapping[str, Any]) -> str:
    """Return what two trainings of the same recipe and data have in common, whatever engine computed them, as canonical JSON."""
    return canonical_json({"training": _unnamed(identity["training"]), "data": identity["data"]})


def _unnamed(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in recipe.items() if name not in ("id", "title")}


def plan_training(recipe: Recipe, data_dir: Path | None = None, device: str = "cpu", test: str | None = None) -> TrainingUnit:
    """Return the unit that trains a recipe on the engine that a fixed rule gives it.

    Raises
    ------
    UserError
        If the engine cannot train the recipe, or its data has to be read for the identity and is not on this machine.
    """
    return TrainingUnit(recipe, training_sha256(recipe.data.dataset, data_dir), resolve_engine(recipe, device), data_dir, test)
