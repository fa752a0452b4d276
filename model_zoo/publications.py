"""Numbers from papers, repositories and leaderboards: CSV files in the folder `published`, a source in every row."""

from __future__ import annotations

import csv
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from model_zoo.errors import DamagedFileError, UsageError
from model_zoo.registry import package_folder
from model_zoo.threat import parse_radius


class Published(BaseModel):
    """One number somebody has published, and where; what the source does not say is None.

    Attributes
    ----------
    key : str
        Unique in its file.
    paper : str
        The paper whose model it is, author and year.
    method : str or None
        Key into the bibliography, as in a record.
    weight_init, last_batch_norm : str or None
        As in a record.
    training : str or None
        What examples it was trained on: "pgd", "fast" (one step), "free", "trades", "none" (clean images).
    keep_ratio, allocation_power : float or None
        Fraction of weights kept; the p of Liu et al. 2022.
    extra_data : bool or None
        Whether real images beyond the training set were used.
    norm, radius : str or None
        As published, an exact number: "8/255" and "0.031" are two threat models.
    attack : str or None
        What `robust` was measured with.
    clean, robust : float or None
        Accuracies as fractions.
    n : int or None
        Test images.
    source, location, version : str
        The repository or paper, the table or file in it, and its commit (None for a paper).
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
    norm: Literal["Linf", "L2"] | None
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
    """All published numbers: `file`, the columns of `Published`, and `sparsity`; missing where unknown.

    Raises
    ------
    DamagedFileError
        If a file has another column, a value that is none, or a key twice; the line is named.
    """
    rows = []
    for path in sorted(package_folder("published").glob("*.csv")):
        seen: set[str] = set()
        with path.open(encoding="utf-8", newline="") as file:
            for line, row in enumerate(csv.DictReader(file), start=2):
                try:
                    one = Published.model_validate({name: value or None for name, value in row.items()})
                except ValidationError as error:
                    first = error.errors()[0]
                    where = ".".join(map(str, first["loc"]))
                    raise DamagedFileError(path, "a published number", f"line {line}, {where}: {first['msg']}") from None
                if one.key in seen:
                    raise DamagedFileError(path, "keys that are unique", f"line {line}: {one.key} again")
                seen.add(one.key)
                rows.append({"file": path.stem, **one.model_dump()})
    frame = pd.DataFrame(rows, columns=["file", *Published.model_fields])
    return frame.assign(sparsity=1 - frame["keep_ratio"].astype(float))
