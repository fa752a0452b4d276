"""The store: what was found out, one Parquet file per unit beside a JSON manifest, content-addressed by the unit's identity.

A unit is done when both files are there and agree. Files appear by atomic rename, the manifest last, so a run that is killed leaves
units that are done and units that are not, nothing between.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save

from harness.evaluation.outcomes import COLUMNS, UnitOutcome
from harness.runner.plan import Unit
from model_zoo.errors import DamagedFileError
from model_zoo.files import place

# 2 added the column robust_to_seen: of version 1 we only know what the attacks returned.
SCHEMA_VERSION = 2

_PARQUET = pa.schema(
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


@dataclass(frozen=True)
class Stored:
    """One finished unit as read back: its manifest and its outcomes."""

    manifest: Mapping[str, Any]
    frame: pd.DataFrame


class Store:
    """A folder of finished units.

    Parameters
    ----------
    root : Path
        Made when the first unit is written; `root/units` holds `<id>.parquet`, `<id>.json` and `<id>.safetensors` (broken images).
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.units = root / "units"

    def holds(self, unit: str) -> bool:
        """Whether the unit is done: both files there, the outcome file as its manifest says. A damaged unit is not done."""
        try:
            self.read(unit)
        except (DamagedFileError, FileNotFoundError):
            return False
        return True

    def write(self, unit: Unit, outcome: UnitOutcome, facts: Mapping[str, Any]) -> None:
        """Store a unit's outcome; `facts` (timings, environment) stay outside the identity."""
        self.units.mkdir(parents=True, exist_ok=True)
        if len(outcome.broken_images):
            place(self.units / f"{unit.id}.safetensors", _broken(outcome))
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pandas(outcome.frame, _PARQUET, preserve_index=False), buffer, compression="zstd")
        place(self.units / f"{unit.id}.parquet", buffer.getvalue())
        manifest = {
            "schema": SCHEMA_VERSION,
            "unit": unit.id,
            "labels": unit.labels,
            "identity": unit.identity,
            "images": len(outcome.frame),
            "outcomes_sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
            "at_fault": outcome.at_fault,
            "boundary_flips": outcome.boundary_flips,
            "flags": [{"kind": kind, "message": message} for kind, message in outcome.flags],
            **facts,
        }
        place(self.units / f"{unit.id}.json", (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode())

    def read(self, unit: str) -> Stored:
        """Read one unit back.

        Raises
        ------
        FileNotFoundError
            If the unit was never finished.
        DamagedFileError
            If a file is cut short, foreign, of a newer schema, or does not agree with its manifest.
        """
        path = self.units / f"{unit}.json"
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            if manifest["schema"] > SCHEMA_VERSION:
                raise DamagedFileError(path, f"schema {SCHEMA_VERSION} or older", f"schema {manifest['schema']} (made by a newer version)")
            expected, labels = manifest["outcomes_sha256"], dict(manifest["labels"])
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedFileError(path, "a unit's manifest", f"{type(error).__name__}: {error}") from None
        outcomes = self.units / f"{unit}.parquet"
        if not outcomes.is_file():
            raise DamagedFileError(outcomes, "the outcomes of a finished unit", "no file")
        content = outcomes.read_bytes()
        if hashlib.sha256(content).hexdigest() != expected:
            raise DamagedFileError(outcomes, f"sha256 {expected}", f"{len(content)} bytes with another")
        frame = pq.read_table(io.BytesIO(content)).to_pandas()
        if manifest["schema"] == 1 and "robust" in frame:
            frame.insert(frame.columns.get_loc("robust") + 1, "robust_to_seen", frame["robust"])
        if tuple(frame.columns) != COLUMNS:
            raise DamagedFileError(outcomes, f"columns {', '.join(COLUMNS)}", ", ".join(map(str, frame.columns)))
        for position, (name, value) in enumerate(labels.items()):
            frame.insert(position, name, value)
        return Stored(manifest, frame)

    def read_all(self) -> Iterator[Stored | DamagedFileError]:
        """Every finished unit in order of id; a damaged one comes as the error that describes it."""
        for path in sorted(self.units.glob("*.json")):
            try:
                yield self.read(path.stem)
            except DamagedFileError as error:
                yield error


def _broken(outcome: UnitOutcome) -> bytes:
    return save({"image": outcome.broken_images, "perturbation": outcome.perturbations})
