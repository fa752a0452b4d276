"""What a model record may say. Unknown fields are refused; what is unknown is left out."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from model_zoo.errors import UsageError
from model_zoo.threat import ThreatModel, parse_radius


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Checkpoint(_Strict):
    """The file that holds the model, relative to the record's checkpoint folder, and what it must hash to."""

    file: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(gt=0)


class TrainedOn(_Strict):
    """Training images: the data set, how many of them, and whether images beyond it were used."""

    train: str
    images: int | None = None
    extra: bool = False


class Threat(_Strict):
    """The threat model a model was trained for; `radius` is an exact fraction such as "8/255"."""

    norm: Literal["Linf", "L2"]
    radius: str

    @field_validator("radius")
    @classmethod
    def _is_fraction(cls, radius: str) -> str:
        try:
            parse_radius(radius)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return radius

    def model(self) -> ThreatModel:
        """The same as a `ThreatModel`."""
        return ThreatModel(self.norm, Fraction(self.radius))


class Taxonomy(_Strict):
    """How a model was pruned, in the fields of AdversarialPruningBenchmark.

    `when`: before, during or after adversarial training; for networks whose weights are never trained, before. `scored`: what the kept
    weights are chosen by, "magnitude", "learned" or "random". `structured`: whole channels. `scope`: whether weights compete within
    their layer or over the whole network.
    """

    when: Literal["before", "during", "after"]
    scored: Literal["magnitude", "learned", "random"]
    structured: bool
    scope: Literal["local", "global"]


class Training(_Strict):
    """How the training run went: facts for the reader, outside the model's identity.

    `engine` is what computed the run, "dense" for plain PyTorch; records of before there were others do not have it.
    """

    epochs: int
    minutes: float
    machine: str
    precision: str
    engine: str = "dense"
    threads: int
    torch: str
    hold_out_clean_accuracy: float = Field(ge=0, le=1)
    hold_out_pgd_accuracy: float = Field(ge=0, le=1)


class Attackable(Protocol):
    """What a unit has to know of a model, whether a record says it or it was found by looking (`model_zoo.own`); None is unknown."""

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def architecture(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def affine(self) -> bool: ...  # noqa: D102
    @property
    def weights_sha256(self) -> str: ...  # noqa: D102
    @property
    def backward(self) -> str: ...  # noqa: D102
    @property
    def stochastic(self) -> bool: ...  # noqa: D102
    @property
    def family(self) -> str | None: ...  # noqa: D102
    @property
    def weight_bits(self) -> int | None: ...  # noqa: D102
    @property
    def keep_ratio(self) -> float | None: ...  # noqa: D102
    @property
    def data(self) -> TrainedOn | None: ...  # noqa: D102
    @property
    def training(self) -> Training | None: ...  # noqa: D102
    @property
    def classes(self) -> int: ...  # noqa: D102


class Record(_Strict):
    """One model of the registry.

    `keep_ratio` is the fraction of weights kept (None for a model that is not pruned); `allocation_power` the paper's p; `weight_init`
    how weights that are never trained were drawn (None is "binary" too); `backward` says what the gradient of the stored model is:
    "exact" where every operation is differentiated as it is, else what an attack puts in place of its steps; `stochastic` that it draws
    random numbers when it predicts; `ships` that its checkpoint is part of this package: False for one that is too large.
    """

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    title: str
    family: Literal["pruned-binary", "dense", "dense-binary", "sparse", "sparse-binary", "quantised"]
    method: str
    architecture: dict[str, Any]
    affine: bool
    weight_bits: int = Field(ge=1, le=32)
    activation_bits: int = Field(ge=1, le=32)
    keep_ratio: float | None = Field(default=None, gt=0, le=1)
    allocation_power: float | None = Field(default=None, ge=0, le=1)
    weight_init: Literal["binary", "signed-constant", "signed-constant-scaled", "uniform", "kaiming-normal"] | None = None
    backward: Literal["exact", "ste", "bireal", "tanh"]
    stochastic: bool = False
    ships: bool = True
    data: TrainedOn
    threat: Threat
    recipe: str | None = None
    pruning: Taxonomy | None = None
    seed: int | None = None
    selected_on: str | None = None
    training: Training | None = None
    weights_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    checkpoint: Checkpoint

    @model_validator(mode="after")
    def _pruned_has_keep_ratio(self) -> Record:
        if self.family == "pruned-binary" and (self.keep_ratio is None or self.allocation_power is None):
            raise ValueError("a pruned-binary model has a keep_ratio and an allocation_power")
        return self

    @property
    def signs_drawn(self) -> bool:
        """Whether the signs of its weights were drawn at random and never trained, so that a seed gives them again."""
        return self.family == "pruned-binary" or self.method in ("diffenderfer2021", "fu2021")

    @property
    def sparsity(self) -> float | None:
        """Fraction of weights removed, 1 - keep_ratio; None for a model that is not pruned."""
        return None if self.keep_ratio is None else 1.0 - self.keep_ratio

    @property
    def classes(self) -> int:
        """Number of logits."""
        return int(self.architecture["classes"])

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape [C, H, W] of the images it was trained on."""
        return (3, 224, 224) if self.data.train.startswith("imagenet") else (3, 32, 32)
