"""The training curve: one record per epoch, and its text form."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True)
class EpochRecord:
    """One line of the curve. Accuracies are fractions; `seconds` is the time since the run began, without interruptions."""

    epoch: int
    learning_rate: float
    train_loss: float
    train_robust_accuracy: float
    hold_out_clean_accuracy: float
    hold_out_pgd_accuracy: float
    seconds: float

    def __str__(self) -> str:
        """A line for people, accuracies in per cent."""
        clean, robust = 100 * self.hold_out_clean_accuracy, 100 * self.hold_out_pgd_accuracy
        return f"epoch {self.epoch}: loss {self.train_loss:.3f}, hold-out clean {clean:.1f} %, PGD-10 {robust:.1f} %"


def curve_csv(curve: Sequence[EpochRecord]) -> str:
    """Return the curve as CSV: a header and one line per epoch; accuracies as fractions."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [field.name for field in fields(EpochRecord)], lineterminator="\n")
    writer.writeheader()
    for epoch in curve:
        row = {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in asdict(epoch).items()}
        writer.writerow(row)
    return buffer.getvalue()
