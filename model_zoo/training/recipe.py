"""Training recipe: everything that decides the trained weights, read from one TOML file."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model_zoo.documents import read_toml
from model_zoo.errors import UsageError, one_line
from model_zoo.families import get_family
from model_zoo.files import is_file_name
from model_zoo.plugins import RECIPES
from model_zoo.training.sections import InnerAttack, Optimiser, TrainingData, section


@dataclass(frozen=True)
class Recipe:
    """Complete specification of one model's training; raises UsageError if its fields contradict each other.

    Attributes
    ----------
    id : str
        Id of the model that it trains.
    family : str
        Name of a family, as in `model_zoo.families`: "pruned-binary", "dense", "hydra" and so on.
    options : mapping
        The family's options, with defaults filled in.
    architecture : mapping
        Fields that `model_zoo.classifier.build_classifier` takes.
    select : str
        "last": return the model after the last epoch. "hold-out": return that of the epoch with the best PGD-10 accuracy on the held-out
        images.
    average : float
        Decay, in [0, 1), of an exponential moving average of the trained parameters. Unless it is 0, the averaged network is evaluated
        after every epoch, selected, and returned.
    start_from : str
        Packed checkpoint to start from, absolute or relative to the recipe's file; "" for none.
    folder : Path
        Folder of the recipe's file; not part of the recipe.
    """

    id: str
    title: str
    family: str
    seed: int
    architecture: Mapping[str, Any]
    data: TrainingData
    attack: InnerAttack
    optimiser: Optimiser
    options: Mapping[str, Any] = field(default_factory=dict)
    select: str = "last"
    average: float = 0.0
    start_from: str = ""
    folder: Path = field(default=Path(), compare=False, metadata={"in_file": False})

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,199}", self.id):
            raise UsageError(f"an id must consist of lower-case letters, digits, dots and hyphens, but is {self.id[:60]!r}")
        if not is_file_name(self.id):
            raise UsageError(f"the id {self.id[:60]!r} is reserved on Windows: choose another")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"the seed must be from 0 to 2^63 - 1, but is {one_line(repr(self.seed), 60)}")
        classes = self.architecture.get("classes")
        if not isinstance(self.architecture.get("name"), str) or type(classes) is not int or not 1 <= classes <= 2**20:
            raise UsageError("an architecture needs a name and a number of classes")
        if self.select not in ("last", "hold-out"):
            raise UsageError(f"select must be last or hold-out, not {self.select!r}")
        if self.select == "hold-out" and self.data.hold_out < 1:
            raise UsageError("selection on the hold-out needs held-out images")
        is_staged = self.options.get("stages", 1) > 1 or any(name in self.options for name in ("pretrain_epochs", "clean_epochs"))
        if self.select == "hold-out" and is_staged:
            raise UsageError("gradual or staged pruning reaches its keep ratio in the last stage: select = 'last'")
        if not 0 <= self.average < 1:
            raise UsageError(f"average, the decay of a moving average, must be from 0 (none) to less than 1, not {self.average}")
        if self.average and not get_family(self.family).averages:
            raise UsageError(f"parameters of family {self.family!r} cannot be averaged: their mean breaks its constraints")
        if any(strength.epoch >= self.optimiser.epochs for strength in self.attack.later):
            raise UsageError(f"a later attack must begin before the end of the {self.optimiser.epochs} epochs")

    @property
    def start_path(self) -> Path | None:
        """Path of the checkpoint to start from; None if the recipe names none."""
        return self.folder / self.start_from if self.start_from else None

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], folder: Path = Path()) -> Recipe:
        """Build a recipe from parsed TOML; raises UsageError naming the unknown or missing field."""
        fields = dict(fields)
        for name, kind in (("data", TrainingData), ("attack", InnerAttack), ("optimiser", Optimiser)):
            if isinstance(fields.get(name), Mapping):
                fields[name] = section(kind, fields[name], f"recipe section [{name}]")
        recipe = section(cls, fields, "recipe")
        return dataclasses.replace(recipe, options=get_family(recipe.family).options(recipe.options), folder=folder)

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Read a recipe file.

        Raises
        ------
        UsageError
            If the file does not exist or has a wrong field; the message names the file.
        DamagedFileError
            If the file is not TOML.
        """
        try:
            fields = read_toml(path, "a recipe")
        except FileNotFoundError:
            raise UsageError(f"no recipe file {path}") from None
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror or error}") from None
        try:
            return cls.from_dict(fields, path.parent)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """Return plain nested dictionaries with all defaults filled in, except `flip`: identities of trainings are older than it."""
        fields = dataclasses.asdict(self)
        del fields["folder"]
        if fields["data"]["flip"]:
            del fields["data"]["flip"]
        return fields


def recipe_path(recipe: str) -> Path:
    """Return the file of the shipped recipe with this id, or `recipe` as a path if it ends in .toml; raises UnknownNameError otherwise."""
    if recipe.endswith(".toml"):
        return Path(recipe)
    file = RECIPES.origin(recipe).file
    assert file is not None
    return file
