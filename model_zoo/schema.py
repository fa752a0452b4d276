"""Schema of model records. Unknown fields raise a validation error; facts that are unknown are omitted from a record."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from model_zoo.errors import UsageError
from model_zoo.files import is_file_name
from model_zoo.threat import NormName, ThreatModel, parse_radius

# One component of a path, on every operating system; it does not begin with a dot.
_FILE_NAME = re.compile(r"[^./\\:*?\"<>|][^/\\:*?\"<>|]{0,199}")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def checked_radius(radius: str) -> str:
    """Return a radius as it is; raise a ValueError, as pydantic requires, if it is not an exact fraction such as "8/255"."""
    try:
        parse_radius(radius)
    except UsageError as error:
        raise ValueError(str(error)) from None
    return radius


class Checkpoint(_Strict):
    """File that contains the model, relative to the record's checkpoint folder, with its sha256 and size in bytes."""

    file: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(gt=0, lt=2**63)

    @field_validator("file")
    @classmethod
    def _is_file_name(cls, file: str) -> str:
        """Check the name, so that a record cannot make its readers open a file of another folder."""
        if not _FILE_NAME.fullmatch(file) or not file.isprintable():
            raise ValueError("the name of a file in the record's folder is expected")
        return file


class TrainedOn(_Strict):
    """Training images: the data set, the number of images, whether images beyond the data set were used, and their shape [C, H, W].

    The shape is recorded for users' images, and if it is not the `usual_shape`.
    """

    train: str
    images: int | None = Field(default=None, ge=1)
    extra: bool = False
    shape: tuple[int, int, int] | None = None


def usual_shape(train: str) -> tuple[int, int, int]:
    """Return the shape [C, H, W] of images of a data set, by its name, where a record does not state it."""
    return (3, 224, 224) if train.startswith("imagenet") else (3, 32, 32)


class Threat(_Strict):
    """Threat model that a model was trained for; `radius` is an exact fraction such as "8/255"."""

    norm: NormName
    radius: str

    @field_validator("radius")
    @classmethod
    def _is_fraction(cls, radius: str) -> str:
        return checked_radius(radius)

    def model(self) -> ThreatModel:
        """Return the corresponding `ThreatModel`."""
        return ThreatModel(self.norm, Fraction(self.radius))


class Taxonomy(_Strict):
    """How a model was pruned, in the fields of AdversarialPruningBenchmark.

    `when`: before, during or after adversarial training; before, for networks whose weights are never trained. `scored`: the criterion by
    which kept weights are chosen, "magnitude", "learned" or "random". `structured`: whether whole channels are pruned. `scope`: whether
    weights compete within their layer ("local") or over the whole network ("global").
    """

    when: Literal["before", "during", "after"]
    scored: Literal["magnitude", "learned", "random"]
    structured: bool
    scope: Literal["local", "global"]


class Training(_Strict):
    """Facts about the training run for readers; they are not part of the model's identity.

    `engine` is the implementation that computed the run, "dense" for plain PyTorch, which is also the default for older records.
    """

    epochs: int = Field(ge=0)
    minutes: float = Field(ge=0, allow_inf_nan=False)
    machine: str
    precision: str
    engine: str = "dense"
    threads: int = Field(ge=1)
    torch: str
    hold_out_clean_accuracy: float = Field(ge=0, le=1)
    hold_out_pgd_accuracy: float = Field(ge=0, le=1)


class Attackable(Protocol):
    """Facts about a model that a unit needs, from a record or from inspection (`model_zoo.user_model.UserModel`); None means unknown."""

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
    """Record of one model of the registry.

    `keep_ratio` is the fraction of weights kept (None for a model that is not pruned) and `allocation_power` the paper's p. `weight_init`
    is how weights that are never trained were drawn (None means "binary"). `backward` is the gradient of the stored model: "exact" if
    every operation is differentiated as it is, else the substitute that an attack uses for its step functions. `stochastic` states that
    the model draws random numbers when it predicts, `ships` that its checkpoint is part of this package (False for a model that is too
    large).
    """

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", max_length=200)
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

    @field_validator("id")
    @classmethod
    def _is_name_of_a_file(cls, model: str) -> str:
        if not is_file_name(model):
            raise ValueError("the id is reserved on Windows: choose another")
        return model

    @field_validator("architecture")
    @classmethod
    def _has_name_and_classes(cls, architecture: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(architecture.get("name"), str):
            raise ValueError("an architecture needs a name")
        if type(architecture.get("classes")) is not int or not 1 <= architecture["classes"] <= 2**20:
            raise ValueError("an architecture needs a number of classes")
        return architecture

    @model_validator(mode="after")
    def _pruned_has_keep_ratio(self) -> Record:
        if self.family == "pruned-binary" and (self.keep_ratio is None or self.allocation_power is None):
            raise ValueError("a pruned-binary model needs a keep_ratio and an allocation_power")
        return self

    @property
    def signs_drawn(self) -> bool:
        """Whether the signs of the weights were drawn at random and never trained, so that a seed reproduces them."""
        return self.family == "pruned-binary" or self.method in ("diffenderfer2021", "fu2021")

    @property
    def sparsity(self) -> float | None:
        """Fraction of weights removed, 1 - keep_ratio, or None for a model that is not pruned."""
        return None if self.keep_ratio is None else 1.0 - self.keep_ratio

    @property
    def classes(self) -> int:
        """Number of logits."""
        return int(self.architecture["classes"])

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape [C, H, W] of the images that the model was trained on."""
        return self.data.shape or usual_shape(self.data.train)
