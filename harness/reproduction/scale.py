"""Scales: how the settings of a paper become something that a machine can train."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from harness.plugins import SCALES
from model_zoo.documents import read_toml, validated
from model_zoo.errors import DamagedFileError
from model_zoo.threat import exact_fraction


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Data(_Section):
    """Images of one data set of the paper: `train` is a name for `harness.datasets.training`, `test` one of `harness.datasets`.

    `images` (all by default) and `attack` are the number of test images and the attack behind the measured robust accuracy;
    `curve` names images whose accuracy joins the training curve.
    """

    train: str
    test: str
    images: int | None = Field(default=None, ge=1, lt=2**31)
    curve: str | None = None
    attack: str
    classes: int = Field(ge=2, lt=2**31)


class InnerSteps(_Section):
    """Attack inside training: number of steps, and their size as a fraction of the radius."""

    steps: int = Field(ge=1, lt=2**31)
    step: str

    @field_validator("step")
    @classmethod
    def _is_positive(cls, step: str) -> str:
        if exact_fraction(step) <= 0:
            raise ValueError("the step must be positive")
        return step


class Scale(_Section):
    """Scale of a reproduction.

    Attributes
    ----------
    name : str
        Name of the file.
    title : str
        What it trains, in one line.
    seed : int
        Added to the seed of the settings.
    hold_out : int
        Number of training images held out.
    select : str
        Which epoch's model is kept, "last" or "hold-out"; staged methods always keep the last.
    faithful : bool
        Whether training follows the official code in every detail.
    attack, fast_attack : InnerSteps
        Attack inside training, and that of the fast variant.
    data : mapping
        By the paper's name of the data set.
    architectures : mapping
        Fields of an architecture, by the paper's name.
    schedules : mapping
        Fields of `model_zoo.training.sections.Optimiser`, by name: "scores", "fast", "weights", "binary-weights".
    stages : mapping
        Further options of staged methods, by method, and by "METHOD.binary" for binary weights; a field "schedule" replaces the optimiser.
    """

    name: str
    title: str
    seed: int = Field(default=0, ge=0, lt=2**63)
    hold_out: int = Field(ge=0, lt=2**31)
    select: Literal["last", "hold-out"]
    faithful: bool = False
    attack: InnerSteps
    fast_attack: InnerSteps
    data: Mapping[str, Data]
    architectures: Mapping[str, Mapping[str, Any]]
    schedules: Mapping[str, Mapping[str, Any]]
    stages: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)

    @field_validator("stages")
    @classmethod
    def _have_schedules(cls, stages: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
        for name, options in stages.items():
            if not isinstance(options.get("schedule", {}), dict):
                raise ValueError(f"{name}.schedule: the fields of an optimiser are expected")
        return stages


def read_scale(path: Path) -> Scale:
    """Read the file of a scale.

    Raises
    ------
    DamagedFileError
        If the file is not TOML, or a field is missing, unknown or of another type; the message names the field.
    """
    try:
        fields = read_toml(path, "a scale")
    except OSError as error:
        raise DamagedFileError(path, "a scale in TOML", str(error)) from None
    return validated(Scale, {"name": path.stem, **fields}, path, "a scale")


def get_scale(name: str) -> Scale:
    """Return a scale by name, or by path if it ends in .toml; raises UnknownNameError for another name."""
    return read_scale(Path(name)) if name.endswith(".toml") else SCALES.get(name)
