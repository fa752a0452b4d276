"""Suites, which define which models are attacked, how and on which images; one TOML file each in the folder `suites`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.plugins import SUITES
from model_zoo.documents import read_toml, validated
from model_zoo.errors import UsageError
from model_zoo.threat import SEVERITIES, ThreatModel

Severity = Annotated[int, Field(ge=SEVERITIES[0], le=SEVERITIES[-1])]


class Evaluation(BaseModel):
    """One part of a suite: attacks on one data set under one or more threat models, or corruptions of one or more severities.

    `threats` contains texts such as "Linf 8/255"; if it is empty, the protocol's threat model for the data set applies. `n` is the number
    of images, the first in the data set's order; None means all of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str
    attacks: list[str] = []
    corruptions: list[str] = []
    severities: list[Severity] = list(SEVERITIES)
    threats: list[str] = []
    n: int | None = Field(default=None, gt=0, lt=2**31)

    @field_validator("threats")
    @classmethod
    def _are_threats(cls, threats: list[str]) -> list[str]:
        try:
            for threat in threats:
                ThreatModel.parse(threat)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return threats

    @model_validator(mode="after")
    def _has_work(self) -> Self:
        if not self.attacks and not self.corruptions:
            raise ValueError("neither attacks nor corruptions")
        return self


class Suite(BaseModel):
    """A named list of evaluations.

    Attributes
    ----------
    models : list of str, or "all"
        Ids; "all" means every registered model trained on data of the data set's family.
    tables : list of str or None
        The tables that a report of the suite has; None means all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    models: list[str] | Literal["all"]
    seed: int = Field(default=0, ge=-(2**63), lt=2**64)
    tables: list[str] | None = None
    evaluation: list[Evaluation] = Field(min_length=1)


def suite_names() -> list[str]:
    """Return the names of all suites, sorted."""
    return SUITES.names()


def get_suite(name: str) -> Suite:
    """Return the suite called `name`, or that of a TOML file; raises an UnknownNameError if there is none."""
    return SUITES.get(name)


def read_suite(path: Path) -> Suite:
    """Read a suite file; raise a DamagedFileError that names the first wrong field if it is invalid."""
    return validated(Suite, {"name": path.stem, **read_toml(path, "a suite")}, path, "a suite")
