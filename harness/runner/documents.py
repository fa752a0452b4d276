"""JSON documents of a store, as pydantic models with a version: manifests, diagnoses, claims and failures.

A document of an older version is brought up to date one version at a time by `Document.UPDATES`; one of a newer version is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.runner.identity import unit_id
from model_zoo.documents import parse_json, validated
from model_zoo.errors import DamagedFileError
from model_zoo.schema import checked_radius
from model_zoo.threat import NormName

Content = dict[str, Any]


class Part(BaseModel):
    """A frozen part of a document; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Document(Part):
    """A versioned JSON document.

    Attributes
    ----------
    KIND : str
        What error messages call the document.
    VERSION : int
        The version that is written.
    UPDATES : mapping
        For each older version, a function from its content to that of the next version.
    """

    KIND: ClassVar[str]
    VERSION: ClassVar[int] = 1
    UPDATES: ClassVar[Mapping[int, Callable[[Content], Content]]] = {}

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a JSON file.

        Raises
        ------
        FileNotFoundError
            If there is no file.
        DamagedFileError
            If the file cannot be read, is not JSON, or does not contain a document, see `parse`.
        """
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise DamagedFileError(path, cls.KIND, error.strerror or str(error)) from None
        return cls.parse(path, parse_json(content, path, cls.KIND))

    @classmethod
    def parse(cls, path: Path, content: object) -> Self:
        """Bring the content of a document up to date and check it.

        Raises
        ------
        DamagedFileError
            If a field is missing, unknown or of another type, or the version is newer than `VERSION`; `path` is the file it names.
        """
        # The first version of some documents had no field for it.
        version = content.get("schema", 1) if isinstance(content, dict) else None
        if not isinstance(content, dict) or type(version) is not int:
            raise DamagedFileError(path, cls.KIND, "no JSON object with a version")
        if version > cls.VERSION:
            raise DamagedFileError(path, f"schema {cls.VERSION} or older", f"schema {version} (made by a newer version)")
        try:
            for older in range(version, cls.VERSION):
                content = cls.UPDATES[older](content)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise DamagedFileError(path, f"{cls.KIND} of schema {cls.VERSION}", f"schema {version}") from None
        return validated(cls, {name: value for name, value in content.items() if name != "schema"}, path, cls.KIND)

    def content(self) -> Content:
        """Return the document as plain JSON values, without fields that have their default."""
        return {"schema": self.VERSION, **self.model_dump(mode="json", exclude_defaults=True)}

    def to_bytes(self) -> bytes:
        """Return the document as a JSON file."""
        return (json.dumps(self.content(), indent=1, sort_keys=True) + "\n").encode()


class _Identity(BaseModel):
    """Fields of an identity that readers need; later versions may add fields, so unknown ones are allowed."""

    model_config = ConfigDict(frozen=True, extra="allow")


class ModelIdentity(_Identity):
    """A network, and how it is differentiated."""

    weights: str
    architecture: dict[str, Any]
    affine: bool


class DataIdentity(_Identity):
    """A data set, and the hash of a block of its images."""

    dataset: str
    block: str


class ThreatIdentity(_Identity):
    """A threat model, or "corruptions" and a severity."""

    norm: NormName | Literal["corruptions"]
    radius: str

    @field_validator("radius")
    @classmethod
    def _is_radius(cls, radius: str) -> str:
        return checked_radius(radius)


class AttackIdentity(_Identity):
    """An attack or a corruption with its parameters."""

    name: str
    adapter: str
    norm: str
    parameters: dict[str, Any]


class UnitIdentity(_Identity):
    """Everything that decides the outcomes of a unit."""

    protocol: int
    model: ModelIdentity
    data: DataIdentity
    threat: ThreatIdentity
    attack: AttackIdentity
    base_seed: int


class DiagnosisIdentity(_Identity):
    """Everything that decides a model's diagnostics."""

    diagnostics: int
    model: ModelIdentity
    data: DataIdentity
    threat: ThreatIdentity


class Labels(Part):
    """Names of a unit for readers; its identity alone decides the outcomes."""

    unit: str
    protocol: int
    model: str
    family: str | None
    dataset: str
    norm: str
    radius: str
    attack: str
    seed: int


class UnitFlag(Part):
    """A warning of an attack, the meter or the referee."""

    kind: str
    message: str


class Withdrawal(Part):
    """Why and when (UTC) an outcome was declared invalid."""

    reason: str
    when: str


class EngineUse(Part):
    """The engine that a unit's attack differentiated, and what the comparison with the model showed."""

    used: str
    finding: str


class Manifest(Document):
    """Description of a finished unit: its identity, and how its outcomes were computed.

    Attributes
    ----------
    unit : str
        The unit's id, the sha256 of `identity`.
    images : int
        The number of outcomes.
    outcomes_sha256 : str
        sha256 of the Parquet file that the unit was written to.
    broken_sha256 : str or None
        sha256 of the file of its first broken images; None if there is none, or the unit was written before version 2.
    at_fault : bool
        True if the attack left its threat model, so that the outcomes are not used.
    boundary_flips : int
        The number of images on which attack and referee disagree.
    invalid : Withdrawal or None
        Set once the outcomes are declared invalid.
    history : tuple of Withdrawal
        Those of earlier outcomes of the same unit.
    environment, seconds, engine, fingerprint
        Facts outside the identity: versions and machine, run time, the engine used, and a user network's logits and gradients on
        fixed images.
    """

    KIND = "a unit's manifest"
    VERSION = 2
    # Version 2 added the hash of the broken images, and the outcome column robust_to_seen.
    UPDATES: ClassVar[Mapping[int, Callable[[Content], Content]]] = {1: dict}

    unit: str
    labels: Labels
    identity: dict[str, Any]
    images: int = Field(ge=1, lt=2**31)
    outcomes_sha256: str
    broken_sha256: str | None = None
    at_fault: bool
    boundary_flips: int = Field(ge=0, lt=2**31)
    flags: tuple[UnitFlag, ...] = ()
    invalid: Withdrawal | None = None
    history: tuple[Withdrawal, ...] = ()
    environment: dict[str, Any] = Field(default_factory=dict)
    seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    engine: EngineUse | None = None
    fingerprint: dict[str, list[list[float]]] | None = None

    @model_validator(mode="after")
    def _is_of_identity(self) -> Self:
        identity, labels = UnitIdentity.model_validate(self.identity, strict=True), self.labels
        if unit_id(self.identity) != self.unit:
            raise ValueError("an identity that does not hash to the unit's id")
        expected = Labels(
            unit=self.unit,
            protocol=identity.protocol,
            model=labels.model,
            family=labels.family,
            dataset=identity.data.dataset,
            norm=identity.threat.norm,
            radius=identity.threat.radius,
            attack=identity.attack.name,
            seed=identity.base_seed,
        )
        if labels != expected:
            name = next(name for name in Labels.model_fields if getattr(labels, name) != getattr(expected, name))
            raise ValueError(f"the label {name} is {getattr(labels, name)!r}, but the identity says {getattr(expected, name)!r}")
        return self


class Failure(Document):
    """Why a unit could not be finished: one line, the time (UTC) and the traceback."""

    KIND = "a unit's failure"
    VERSION = 2
    UPDATES: ClassVar[Mapping[int, Callable[[Content], Content]]] = {1: dict}

    unit: str
    message: str
    when: str
    traceback: str = ""


class Claim(Document):
    """One unit being worked on: by which process, since when (seconds since the epoch), and how far, `fraction` in [0, 1]."""

    KIND = "a claim"

    unit: str
    host: str
    pid: int = Field(gt=0, lt=2**31)
    token: str = Field(pattern=r"^[\w-]{1,64}$")
    since: float = Field(allow_inf_nan=False)
    fraction: float = Field(default=0.0, ge=0, le=1)
    component: str = ""


class DiagnosisLabels(Part):
    """Names of a diagnosis for readers."""

    model: str
    dataset: str
    threat: str
    engine: str | None = None


class DiagnosisDocument(Document):
    """Diagnostics of one model on one block of images under one threat model; `identity` hashes to the file's name."""

    KIND = "a model's diagnostics"
    VERSION = 2

    labels: DiagnosisLabels
    identity: dict[str, Any]
    diagnostics: dict[str, Any]

    @field_validator("identity")
    @classmethod
    def _is_identity(cls, identity: dict[str, Any]) -> dict[str, Any]:
        DiagnosisIdentity.model_validate(identity, strict=True)
        return identity
