"""A training recipe: everything that decides which weights come out, read from one TOML file."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from model_zoo.errors import DamagedFileError, UnknownNameError, UsageError
from model_zoo.families import get_family
from model_zoo.threat import ThreatModel
from model_zoo.training.methods import method_names

Section = TypeVar("Section")
RECIPES = Path(__file__).parents[1] / "recipes"


@dataclass(frozen=True)
class InnerAttack:
    """The attack of adversarial training, inside the Linf ball.

    Attributes
    ----------
    threat : str
        Norm and radius, "Linf 8/255".
    step : str
        Step size as an exact fraction of the [0, 1] range.
    steps : int
        Gradient steps; single-step methods take one.
    method : str
        A module of `model_zoo.training.methods`: "pgd" (with one step of 5/4 the radius it is FGSM-RS), "stored-step" (the paper's fast
        variant), "trades", "n-fgsm".
    faithful : bool
        Follow the official code in every detail that changes the weights, in float32, instead of the cheaper choices that each method
        names.
    beta : float
        Weight of the robust term of TRADES.
    """

    threat: str
    step: str
    steps: int
    method: str = "pgd"
    faithful: bool = False
    beta: float = 6.0

    def __post_init__(self) -> None:
        if ThreatModel.parse(self.threat).norm != "Linf":
            raise UsageError("the inner attack of a recipe is Linf")
        try:
            positive = Fraction(self.step) > 0
        except (ValueError, ZeroDivisionError, TypeError):
            raise UsageError(f"the step of the inner attack is a fraction such as '2/255', not {self.step!r}") from None
        if self.steps < 1 or not positive:
            raise UsageError("the inner attack takes at least one step of positive size")
        if self.method not in method_names():
            raise UnknownNameError("training method", self.method, method_names(), "harness train --help")
        if self.steps > 1 and self.method in ("stored-step", "n-fgsm"):
            raise UsageError(f"{self.method} takes one step, not {self.steps}")


@dataclass(frozen=True)
class Optimiser:
    """The outer optimiser and its schedule: linear warm-up over `warmup` epochs, then cosine to zero.

    `kind` is "sgd" or "adam"; `weight_decay` is the coupled kind (L2 added to the gradient) in both. With `milestones`, the rate is
    multiplied by `decay` at the end of each of those epochs instead of following a cosine. `per_epoch` holds the rate fixed during an
    epoch, as the official code does. `restarts` are epochs at which the cosine begins anew, each from its own of the `restart_rates`:
    the stages of methods that train, prune and train again.
    """

    kind: str
    learning_rate: float
    epochs: int
    batch: int
    weight_decay: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False
    warmup: float = 0.0
    milestones: Sequence[int] = ()
    decay: float = 0.1
    per_epoch: bool = False
    restarts: Sequence[int] = ()
    restart_rates: Sequence[float] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("sgd", "adam"):
            raise UsageError(f"optimiser kind is sgd or adam, not {self.kind!r}")
        if self.epochs < 1 or self.batch < 2:
            raise UsageError("a recipe needs at least one epoch and two images a batch")
        for name in ("milestones", "restarts", "restart_rates"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len(self.restarts) != len(self.restart_rates):
            raise UsageError("a restart of the learning rate needs its rate: as many restart_rates as restarts")
        if list(self.restarts) != sorted(set(self.restarts)) or any(not 0 < when < self.epochs for when in self.restarts):
            raise UsageError(f"restarts rise, between the first epoch and the last of {self.epochs}")
        if self.restarts and self.milestones:
            raise UsageError("a learning rate has milestones or restarts, not both")


@dataclass(frozen=True)
class TrainingData:
    """Which images: the first `images` of the shuffled training split (all where None), `hold_out` of them kept apart."""

    dataset: str
    hold_out: int
    images: int | None = None


@dataclass(frozen=True)
class Recipe:
    """One model's training, whole.

    Attributes
    ----------
    id : str
        The id of the model it makes.
    family : str
        A module of `model_zoo.families`: "pruned-binary", "dense", "hydra" and so on.
    options : mapping
        The family's options, defaults filled in.
    architecture : mapping
        As `model_zoo.classifier.build_classifier` takes it.
    select : str
        "last": the model after the last epoch. "hold-out": that of the epoch with the best PGD-10 accuracy on the held-out images.
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

    def __post_init__(self) -> None:
        if self.select not in ("last", "hold-out"):
            raise UsageError(f"select is last or hold-out, not {self.select!r}")
        if self.select == "hold-out" and self.data.hold_out < 1:
            raise UsageError("selection on the hold-out needs held-out images")
        staged = self.options.get("stages", 1) > 1 or any(name in self.options for name in ("pretrain_epochs", "clean_epochs"))
        if self.select == "hold-out" and staged:
            raise UsageError("gradual or staged pruning reaches its keep ratio in the last stage: select = 'last'")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Recipe:
        """Build a recipe from parsed TOML; an unknown or missing field is a UsageError that names it."""
        fields = dict(fields)
        for name, section in (("data", TrainingData), ("attack", InnerAttack), ("optimiser", Optimiser)):
            if isinstance(fields.get(name), Mapping):
                fields[name] = _section(section, fields[name], f"recipe section [{name}]")
        recipe = _section(cls, fields, "recipe")
        return dataclasses.replace(recipe, options=get_family(recipe.family).options(recipe.options))

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Read a recipe file; what is not TOML is a DamagedFileError, a wrong field a UsageError naming the file."""
        try:
            fields = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UsageError(f"no recipe file {path}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise DamagedFileError(path, "a recipe in TOML", str(error)) from None
        try:
            return cls.from_dict(fields)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionaries, every default spelled out."""
        return dataclasses.asdict(self)


def recipe_path(recipe: str) -> Path:
    """The file of a recipe that ships, by id, or the path itself where `recipe` is one ending in .toml."""
    if recipe.endswith(".toml"):
        return Path(recipe)
    shipped = {path.stem: path for path in RECIPES.glob("*.toml")}
    if recipe not in shipped:
        raise UnknownNameError("recipe", recipe, shipped, "harness ls recipes")
    return shipped[recipe]


def _section(kind: type[Section], fields: Mapping[str, Any], where: str) -> Section:
    declared = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(fields) - set(declared))
    if unknown:
        raise UsageError(f"{where}: no field {unknown[0]!r}; there are {', '.join(declared)}")
    for name, item in declared.items():
        if name not in fields and item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise UsageError(f"{where}: field {name!r} is missing")
    return kind(**fields)
