"""JSON documents of a store, as pydantic models with a version: manifests, diagnoses, claims and failures.

A document of an older version is brought up to date one version at a time by `Document.UPDATES`; one of a newer version is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_zoo.errors import DamagedFileError

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
        """Read a JSON file; raise an OSError if that is impossible, and a DamagedFileError as `parse` does."""
        try:
            content = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise DamagedFileError(path, cls.KIND, f"{type(error).__name__}: {error}") from None
        return cls.parse(path, content)

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
        if not isinstance(content, dict) or not isinstance(version, int):
            raise DamagedFileError(path, cls.KIND, "no JSON object with a version")
        if version > cls.VERSION:
            raise DamagedFileError(path, f"schema {cls.VERSION} or older", f"schema {version} (made by a newer version)")
        try:
            for older in range(version, cls.VERSION):
                content = cls.UPDATES[older](content)
            # As JSON, strict validation takes lists for tuples, and nothing else for anything else.
            return cls.model_validate_json(json.dumps({name: value for name, value in content.items() if name != "schema"}), strict=True)
        except RecursionError:
            raise DamagedFileError(path, cls.KIND, "values nested too deeply") from None
        except KeyError:
            raise DamagedFileError(path, f"{cls.KIND} of schema {cls.VERSION}", f"schema {version}") from None
        except ValidationError as error:
            first_error = error.errors()[0]
            location = ".".join(map(str, first_error["loc"]))
            raise DamagedFileError(path, cls.KIND, f"{location}: {first_error['msg']}") from None

    def content(self) -> Content:
        """Return the document as plain JSON values, without fields that have their default."""
        return {"schema": self.VERSION, **self.model_dump(mode="json", exclude_defaults=True)}

    def to_bytes(self) -> bytes:
        """Return the document as a JSON file."""
        return (json.dumps(self.content(), indent=1, sort_keys=True) + "\n").encode()


class Labels(Part):
    """What readers call a unit; the identity decides what it is."""

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
    """What a finished unit is, and how its outcomes were computed.

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
    images: int
    outcomes_sha256: str
    broken_sha256: str | None = None
    at_fault: bool
    boundary_flips: int
    flags: tuple[UnitFlag, ...] = ()
    invalid: Withdrawal | None = None
    history: tuple[Withdrawal, ...] = ()
    environment: dict[str, Any] = Field(default_factory=dict)
    seconds: float | None = None
    engine: EngineUse | None = None
    fingerprint: dict[str, list[list[float]]] | None = None


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
    pid: int
    token: str
    since: float
    fraction: float = 0.0
    component: str = ""


class DiagnosisLabels(Part):
    """What readers call a diagnosis."""

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
