"""Published numbers from papers, repositories and leaderboards, read from CSV files in the folder `published`; every row has a source."""

from __future__ import annotations

import csv
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from model_zoo.documents import first_fault
from model_zoo.errors import DamagedFileError, UsageError
from model_zoo.registry import package_folder
from model_zoo.threat import NormName, parse_radius


class Published(BaseModel):
    """One published result with its source; fields that the source does not give are None.

    Attributes
    ----------
    key : str
        Identifier that is unique within its file.
    paper : str or None
        Author and year of the paper that introduced the model.
    method : str or None
        Key of the bibliography, as in a record.
    weight_init, last_batch_norm : str or None
        As in a record.
    training : str or None
        Examples the model was trained on: "pgd", "fast" (one step), "free", "trades", "none" (clean images).
    keep_ratio, allocation_power : float or None
        Fraction of weights kept, in (0, 1]; the p of Liu et al. 2022, in [0, 1].
    extra_data : bool or None
        Whether real images beyond the training set were used.
    norm, radius : str or None
        Threat model; the radius is the exact number as published, so that "8/255" and "0.031" are two threat models.
    attack : str or None
        Attack with which `robust` was measured.
    clean, robust : float or None
        Accuracies as fractions in [0, 1].
    n : int or None
        Number of test images.
    source, location, version : str
        Repository or paper, the table or file in it, and its commit (None for a paper).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str = Field(min_length=1)
    paper: str | None
    method: str | None
    family: Literal["pruned-binary", "dense", "dense-binary", "sparse", "sparse-binary", "quantised"]
    dataset: str
    architecture: str | None
    parameters: int | None = Field(gt=0)
    weight_bits: int | None = Field(ge=1, le=32)
    structure: Literal["structured", "unstructured"] | None
    keep_ratio: float | None = Field(gt=0, le=1)
    allocation_power: float | None = Field(ge=0, le=1)
    weight_init: str | None
    last_batch_norm: str | None
    training: str | None
    extra_data: bool | None
    norm: NormName | None
    radius: str | None
    attack: str | None
    clean: float | None = Field(ge=0, le=1)
    robust: float | None = Field(ge=0, le=1)
    n: int | None = Field(gt=0)
    source: str = Field(min_length=1)
    location: str = Field(min_length=1)
    version: str | None
    note: str | None

    @field_validator("radius")
    @classmethod
    def _is_a_radius(cls, radius: str | None) -> str | None:
        try:
            parse_radius(radius or "0")
        except UsageError as error:
            raise ValueError(str(error)) from None
        return radius


def published() -> pd.DataFrame:
    """Return all published numbers as a frame with `file`, the fields of `Published`, and `sparsity`; unknown values are missing.

    Raises
    ------
    DamagedFileError
        If a file has an unknown column, an invalid value, or a key twice; the message names the line.
    """
    rows = []
    for path in sorted(package_folder("published").glob("*.csv")):
        seen: set[str] = set()
        with path.open(encoding="utf-8", newline="") as file:
            for line, row in enumerate(csv.DictReader(file), start=2):
                try:
                    result = Published.model_validate({name: value or None for name, value in row.items()})
                except ValidationError as error:
                    raise DamagedFileError(path, "a published number", f"line {line}, {first_fault(error)}") from None
                if result.key in seen:
                    raise DamagedFileError(path, "unique keys", f"line {line}: {result.key} a second time")
                seen.add(result.key)
                rows.append({"file": path.stem, **result.model_dump()})
    frame = pd.DataFrame(rows, columns=["file", *Published.model_fields])
    return frame.assign(sparsity=1 - frame["keep_ratio"].astype(float))
