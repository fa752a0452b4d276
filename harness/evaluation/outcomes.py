"""Outcome of one unit: one row per image, the first broken images, and warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

# One row per image.
SCHEMA = pa.schema(
    [
        ("image", pa.int64()),
        ("label", pa.int64()),
        ("clean_prediction", pa.int64()),
        ("adversarial_prediction", pa.int64()),
        ("robust", pa.bool_()),
        ("robust_to_seen", pa.bool_()),
        ("broken_by", pa.string()),
        ("linf", pa.float64()),
        ("l2", pa.float64()),
        ("forwards", pa.int64()),
        ("backwards", pa.int64()),
    ]
)
COLUMNS = tuple(SCHEMA.names)
# The only column that may be empty, namely for robust images.
_NULLABLE_COLUMN = "broken_by"
# A model that predicts one class for at least half of balanced clean images ignores most of its input, so its robustness is meaningless.
NEAR_CONSTANT_SHARE = 0.5
# With fewer images, one class can reach half of the predictions by chance.
NEAR_CONSTANT_IMAGES = 30
# Number of broken images stored per unit, for the web page.
KEPT_IMAGES = 8


def check_columns(schema: pa.Schema) -> str | None:
    """Return what is wrong with the columns of a table of outcomes, or None."""
    if schema.names != SCHEMA.names:
        return f"columns {', '.join(schema.names)}"
    for name, expected, actual in zip(SCHEMA.names, SCHEMA.types, schema.types, strict=True):
        # A column of strings without any value is stored without a type.
        if actual != expected and not (name == _NULLABLE_COLUMN and pa.types.is_null(actual)):
            return f"column {name} of type {actual}"
    return None


def check_outcomes(table: pa.Table, images: int) -> str | None:
    """Return what is wrong with a table of outcomes of `images` images, or None.

    Types, number of rows, uniqueness of images, missing values and ranges are checked.
    """
    fault = check_columns(table.schema)
    if fault is not None:
        return fault
    for name in SCHEMA.names:
        if name != _NULLABLE_COLUMN and table[name].null_count:
            return f"missing values in column {name}"
    if table.num_rows != images:
        return f"{table.num_rows} rows"
    if len(table["image"].unique()) != images:
        return "an image twice"
    for name in ("image", "label", "clean_prediction", "adversarial_prediction", "forwards", "backwards", "linf", "l2"):
        low = pc.min(table[name]).as_py()
        # A prediction of -1 stands for logits that are not finite.
        if low is not None and low < (-1 if name.endswith("prediction") else 0):
            return f"{name} = {low}"
    for name in ("linf", "l2"):
        if not pc.all(pc.is_finite(table[name])).as_py():
            return f"{name} that is not finite"
    if pc.any(pc.and_(table["robust_to_seen"], pc.invert(table["robust"]))).as_py():
        return "images that are robust to all queries but not to the example returned"
    if not pc.all(pc.equal(table["robust"], pc.is_null(table["broken_by"]))).as_py():
        return "images that are both robust and broken, or neither"
    return None


def near_constant(predictions: Sequence[int]) -> bool:
    """Return whether one class is at least half of the predictions on clean images; False for fewer than 30 images."""
    largest = max(Counter(predictions).values())
    return largest >= NEAR_CONSTANT_SHARE * len(predictions) and len(predictions) >= NEAR_CONSTANT_IMAGES


@dataclass(frozen=True)
class UnitOutcome:
    """Result of one unit.

    Attributes
    ----------
    frame : pandas.DataFrame
        `COLUMNS`, one row per image. `image` is the index in the data set's official order. `robust` refers to the example that the
        attack returned, `robust_to_seen` also to the best example among its queries. `broken_by` is the component whose example was
        returned; "clean" if the model misclassifies the clean image, missing if the image is robust.
    broken_images : np.ndarray
        int64 [k], k <= 8: the first images that the attack broke.
    perturbations : np.ndarray
        float16 [k, 3, H, W]: adversarial minus clean, for those images.
    flags : tuple of (kind, message)
        Warnings of the attack, the meter and the referee.
    at_fault : bool
        True if the attack left its threat model; the unit is then not used.
    boundary_flips : int
        Number of images on which the attack's claim and the referee's prediction disagree.
    """

    frame: pd.DataFrame
    broken_images: np.ndarray
    perturbations: np.ndarray
    flags: tuple[tuple[str, str], ...]
    at_fault: bool
    boundary_flips: int
