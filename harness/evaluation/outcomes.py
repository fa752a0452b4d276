"""What one unit leaves behind: a row an image, the first broken images, and what was noticed on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

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
# A model that gives one class to at least half of balanced unattacked images predicts next to nothing; its robustness means nothing.
NEAR_CONSTANT_SHARE = 0.5
# Of fewer images one class can be half by chance.
NEAR_CONSTANT_IMAGES = 30
# Broken images kept for the page.
KEPT_IMAGES = 8


def near_constant(predictions: Sequence[int]) -> bool:
    """Whether the predictions on unattacked images are mostly one class."""
    most = max(Counter(predictions).values())
    return most >= NEAR_CONSTANT_SHARE * len(predictions) and len(predictions) >= NEAR_CONSTANT_IMAGES


@dataclass(frozen=True)
class UnitOutcome:
    """The result of one unit.

    Attributes
    ----------
    frame : pandas.DataFrame
        `COLUMNS`, one row an image; `image` is its index in the data set's official order; `robust` goes by the example that the attack
        returned, `robust_to_seen` also by the best one among its queries; `broken_by` is the component whose example was returned,
        "clean" for an image the model gets wrong unattacked, and missing for a robust one.
    broken_images : np.ndarray
        int64 [k], k <= 8: the first images that the attack broke.
    perturbations : np.ndarray
        float16 [k, 3, H, W]: adversarial minus clean, for those.
    flags : tuple of (kind, message)
        Warnings of the attack and the referee.
    at_fault : bool
        True if the attack returned something outside its threat model; the unit is then not used.
    boundary_flips : int
        Images on which the attack's claim and the referee's prediction disagree.
    """

    frame: pd.DataFrame
    broken_images: np.ndarray
    perturbations: np.ndarray
    flags: tuple[tuple[str, str], ...]
    at_fault: bool
    boundary_flips: int
