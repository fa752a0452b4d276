"""Recipe sections, validated when they are built: inner attack, optimiser, training data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from collections.abc import Mapping as MappingType
from collections.abc import Sequence as SequenceType
from dataclasses import dataclass
from fractions import Fraction
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from model_zoo.errors import UnknownNameError, UsageError, one_line
from model_zoo.threat import ThreatModel, exact_fraction
from model_zoo.training.methods import method_names

SectionType = TypeVar("SectionType")
# Training methods whose attack takes exactly one step, and the method without an attack.
SINGLE_STEP = ("stored-step", "n-fgsm", "nuat")
CLEAN = "clean"
# Largest number that float32 represents: training computes with it.
_LARGEST = 3.4e38
SCHEDULES = ("cosine", "one-cycle")


@dataclass(frozen=True)
class Later:
    """Strength of the inner attack from `epoch`, counted from 0, on: `steps` steps of size `step`."""

    epoch: int
    steps: int
    step: str


@dataclass(frozen=True)
class InnerAttack:
    """Inner attack of adversarial training, inside the Linf ball; raises UsageError or UnknownNameError if a field is invalid.

    Attributes
    ----------
    threat : str
        Norm and radius, such as "Linf 8/255"; the PGD-10 that measures accuracy on held-out images uses the same radius. At "Linf 0/255",
        with method "clean", no image is attacked, and a selection on held-out images takes the best clean accuracy.
    step : str
        Step size as an exact fraction of the [0, 1] range.
    steps : int
        Number of gradient steps; single-step methods take one.
    method : str
        Name of a method, as in `model_zoo.training.methods`: "pgd" (with one step of 5/4 of the radius it is FGSM-RS), "stored-step" (the
        paper's fast variant), "trades", "n-fgsm", "nuat", or "clean", which trains without an attack and needs neither `step` nor `steps`.
    faithful : bool
        Follow the official code in every detail that changes the weights, in float32, instead of the cheaper choices that each method
        documents.
    beta : float
        Weight of the robust term of TRADES.
    later : sequence of Later
        Stronger or weaker attacks for later epochs, in order of rising epochs.
    nuclear_weight, nuclear_ramp, noise : float
        Options of NuAT: weight of the nuclear norm; fraction of the epochs over which it rises linearly from zero; size of the random
        signs that the attack starts from, as a multiple of the radius.
    """

    threat: str
    step: str = ""
    steps: int = 0
    method: str = "pgd"
    faithful: bool = False
    beta: float = 6.0
    later: Sequence[Later] = ()
    nuclear_weight: float = 4.5
    nuclear_ramp: float = 0.9
    noise: float = 0.5

    def __post_init__(self) -> None:
        label = "recipe section [attack]"
        later = tuple(item if isinstance(item, Later) else section(Later, item, f"{label}, later") for item in self.later)
        object.__setattr__(self, "later", later)
        if ThreatModel.parse(self.threat).norm != "Linf":
            raise UsageError("the inner attack of a recipe must be Linf")
        if self.method not in method_names():
            raise UnknownNameError("training method", self.method, method_names(), "harness train --help")
        if self.method == CLEAN:
            if self.later:
                raise UsageError("training on clean images has no inner attack that could change later")
            return
        if not self.step:
            raise UsageError(f"{label}: field 'step' is missing")
        for strength in (Later(0, self.steps, self.step), *later):
            self._check(strength)
        epochs = [item.epoch for item in later]
        if epochs != sorted(set(epochs)) or any(epoch < 1 for epoch in epochs):
            raise UsageError(f"later attacks must begin at rising epochs, from 1 on, not at {epochs}")
        if self.nuclear_weight < 0 or self.noise < 0 or not 0 <= self.nuclear_ramp <= 1:
            raise UsageError("nuclear_weight and noise must not be negative, and nuclear_ramp must be from 0 to 1")

    def _check(self, strength: Later) -> None:
        try:
            is_positive = exact_fraction(strength.step) > 0
        except ValueError:
            raise UsageError(f"the step of the inner attack must be a fraction such as '2/255', not {_shortened(strength.step)}") from None
        if strength.steps < 1 or not is_positive:
            raise UsageError("the inner attack needs at least one step of positive size")
        if strength.steps > 1 and self.method in SINGLE_STEP:
            raise UsageError(f"{self.method} takes one step, not {strength.steps}")

    def strength(self, epoch: int) -> tuple[int, float]:
        """Return the number of attack steps and their size, in units of the [0, 1] range, in an epoch counted from 0."""
        if self.method == CLEAN:
            return 0, 0.0
        started = [item for item in self.later if item.epoch <= epoch]
        steps, step = (started[-1].steps, started[-1].step) if started else (self.steps, self.step)
        return steps, float(Fraction(step))


@dataclass(frozen=True)
class Optimiser:
    """Outer optimiser and its learning rate; raises UsageError if fields are invalid or contradict each other.

    Attributes
    ----------
    kind : str
        "sgd" or "adam"; `weight_decay` is coupled (L2 added to the gradient) in both.
    schedule : str
        "cosine": linear warm-up over `warmup` epochs, then half a cosine to zero. "one-cycle" (Smith 2018): linear from zero to
        `learning_rate` over `warmup` epochs, then linear to zero at the end.
    milestones, decay : sequence of int, float
        Multiply the rate by `decay` at the end of each of these epochs instead of following a cosine.
    per_epoch : bool
        Keep the rate fixed during an epoch, as the official code does.
    restarts, restart_rates : sequences of int, float
        Epochs at which the cosine restarts, and the rate from which each restart begins; for methods that train, prune and train again.
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
    schedule: str = "cosine"

    def __post_init__(self) -> None:
        if self.kind not in ("sgd", "adam"):
            raise UsageError(f"optimiser kind must be sgd or adam, not {self.kind!r}")
        if self.epochs < 1 or self.batch < 2:
            raise UsageError("a recipe needs at least one epoch and two images per batch")
        for name in ("learning_rate", "weight_decay", "momentum", "warmup", "decay"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} must not be negative")
        for name in ("milestones", "restarts", "restart_rates"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len(self.restarts) != len(self.restart_rates):
            raise UsageError("a restart of the learning rate needs its rate: as many restart_rates as restarts")
        if list(self.restarts) != sorted(set(self.restarts)) or any(not 0 < epoch < self.epochs for epoch in self.restarts):
            raise UsageError(f"restarts must be rising epochs between the first and the last of {self.epochs}")
        if self.restarts and self.milestones:
            raise UsageError("a learning rate may have milestones or restarts, not both")
        if self.schedule not in SCHEDULES:
            raise UsageError(f"schedule must be {' or '.join(SCHEDULES)}, not {self.schedule!r}")
        if self.schedule == "one-cycle" and (self.milestones or self.restarts):
            raise UsageError("a one-cycle learning rate may have neither milestones nor restarts")
        if self.schedule == "one-cycle" and not 0 <= self.warmup < self.epochs:
            raise UsageError(f"the warm-up of one cycle must be shorter than its {self.epochs} epochs, not {self.warmup}")


@dataclass(frozen=True)
class TrainingData:
    """Training images: the first `images` of the shuffled training split (all if None), of which `hold_out` are held out.

    If `flip` is False, images are cropped at random but not mirrored.
    """

    dataset: str
    hold_out: int
    images: int | None = None
    flip: bool = True

    def __post_init__(self) -> None:
        if self.hold_out < 0 or (self.images is not None and self.images <= self.hold_out):
            raise UsageError(f"the {self.hold_out} held-out images leave none of the {self.images} for training")


def section(kind: type[SectionType], fields: Mapping[str, Any], where: str) -> SectionType:
    """Build a recipe section from parsed TOML; raises UsageError naming the unknown or missing field."""
    if not isinstance(fields, Mapping):
        raise UsageError(f"{where}: expected fields, not {fields!r}")
    # Fields that do not come from the file, such as its folder, are marked in their metadata.
    declared = {item.name: item for item in dataclasses.fields(kind) if item.metadata.get("in_file", True)}  # type: ignore[arg-type]
    unknown = sorted(set(fields) - set(declared))
    if unknown:
        raise UsageError(f"{where}: no field {unknown[0]!r}; there are {', '.join(declared)}")
    for name, item in declared.items():
        if name not in fields and item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise UsageError(f"{where}: field {name!r} is missing")
    hints = get_type_hints(kind)
    for name, value in fields.items():
        if not _is_of(hints[name], value):
            raise UsageError(f"{where}: {name} must be {_described(hints[name])}, not {_shortened(value)}")
    return kind(**fields)


def _is_of(hint: Any, value: object) -> bool:
    """Return whether a parsed value is of a field's type; numbers are finite, and True is not a number."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_is_of(argument, value) for argument in arguments)
    if hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    if origin is SequenceType:
        return isinstance(value, (list, tuple)) and all(_is_of(arguments[0], item) for item in value)
    if origin is MappingType:
        return isinstance(value, Mapping)
    # The parts of a list of sections are checked when they are built.
    return isinstance(value, hint) or (dataclasses.is_dataclass(hint) and isinstance(value, Mapping))


def _described(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_described(argument) for argument in arguments if argument is not type(None))
    if origin is SequenceType:
        return f"a list, each item {_described(arguments[0])}"
    names = {str: "text", int: "a whole number of 64 bits", float: "a finite number", bool: "true or false"}
    return names.get(hint, "a table")


def _shortened(value: object) -> str:
    return one_line(repr(value), 60)
