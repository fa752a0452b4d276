"""The training curve as text."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence

from model_zoo.training.trainer import EpochRecord


def curve_csv(curve: Sequence[EpochRecord]) -> str:
    """One line an epoch, with a header; accuracies as fractions."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [field.name for field in dataclasses.fields(EpochRecord)], lineterminator="\n")
    writer.writeheader()
    for epoch in curve:
        row = {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in dataclasses.asdict(epoch).items()}
        writer.writerow(row)
    return buffer.getvalue()
