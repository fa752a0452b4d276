"""Training curve: one record per epoch, and its CSV form."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of the training curve.

    Accuracies are fractions in [0, 1]; `seconds` is the training time since the run began, without interruptions. Accuracies on test images
    are NaN if no test images were passed, those on held-out images if there are none.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_robust_accuracy: float
    hold_out_clean_accuracy: float
    hold_out_pgd_accuracy: float
    seconds: float
    test_clean_accuracy: float = math.nan
    test_pgd_accuracy: float = math.nan

    @classmethod
    def restored(cls, fields: Mapping[str, Any]) -> EpochRecord:
        """Return a record from its stored fields; it equals the stored record even if some values are NaN."""
        values: dict[str, Any] = {name: math.nan if value != value else value for name, value in fields.items()}
        return cls(**values)

    def __str__(self) -> str:
        """Return a line for the log, with accuracies in per cent."""
        clean, robust = 100 * self.hold_out_clean_accuracy, 100 * self.hold_out_pgd_accuracy
        text = f"epoch {self.epoch}: loss {self.train_loss:.3f}, hold-out clean {clean:.1f} %, PGD-10 {robust:.1f} %"
        if math.isnan(self.test_clean_accuracy):
            return text
        return f"{text}, test clean {100 * self.test_clean_accuracy:.1f} %, PGD-10 {100 * self.test_pgd_accuracy:.1f} %"


def check_curve(text: str) -> None:
    """Check that a text is the CSV that `curve_csv` returns for at least one epoch; raises a ValueError that says what is wrong."""
    try:
        header, *rows = csv.reader(io.StringIO(text), strict=True)
    except csv.Error as error:
        raise ValueError(str(error)) from None
    names = {field.name for field in fields(EpochRecord)}
    if len(set(header)) < len(header) or not {name for name in names if not name.startswith("test_")} <= set(header) <= names:
        raise ValueError(f"columns {', '.join(header)}")
    if not rows or any(len(row) != len(header) for row in rows):
        raise ValueError(f"rows of other lengths than {len(header)}, or none")
    for cell in (cell for row in rows for cell in row):
        float(cell)


def curve_csv(curve: Sequence[EpochRecord]) -> str:
    """Return the curve as CSV: a header and one line per epoch, accuracies as fractions.

    The columns of test accuracies are left out if no epoch has them.
    """
    buffer = io.StringIO()
    has_test = any(not math.isnan(epoch.test_clean_accuracy) for epoch in curve)
    names = [field.name for field in fields(EpochRecord) if has_test or not field.name.startswith("test_")]
    writer = csv.DictWriter(buffer, names, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for epoch in curve:
        row = {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in asdict(epoch).items()}
        writer.writerow(row)
    return buffer.getvalue()
