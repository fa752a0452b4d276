"""The store: what was found out, one Parquet file per unit beside a JSON manifest, content-addressed by the unit's identity.

A unit is done when both files are there and agree. Files appear by atomic rename, the manifest last, so a run that is killed leaves
units that are done and units that are not, nothing between.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load, save

from harness.evaluation.marks import marks
from harness.evaluation.outcomes import COLUMNS, UnitOutcome
from harness.runner.claims import Claims
from harness.runner.identity import model_sha256
from harness.runner.partial import PartialFile
from harness.runner.plan import Unit
from harness.runner.signals import held_back
from model_zoo.errors import DamagedFileError
from model_zoo.files import place

# 2 added the column robust_to_seen and the hash of the broken images: of version 1 we only know what the attacks returned.
SCHEMA_VERSION = 2

# What identifies a unit and its model, beside its outcomes.
LABELS = ("unit", "protocol", "model", "family", "dataset", "norm", "radius", "attack", "seed", "model_sha256", "flags")

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
    """One finished unit as read back: its manifest, and its outcomes as a table of `COLUMNS`."""

    manifest: Mapping[str, Any]
    table: pa.Table

    @property
    def frame(self) -> pd.DataFrame:
        """The outcomes, each beside the unit's labels and the hash of its model."""
        frame = self.table.to_pandas()
        return pd.concat([pd.DataFrame(labels_of(self), index=frame.index), frame], axis=1)


def labels_of(stored: Stored) -> dict[str, Any]:
    """The columns `LABELS` that stand beside the outcomes of a unit; `flags` are its marks (`harness.evaluation.marks`), "" for none."""
    manifest = stored.manifest
    flags = [(flag["kind"], flag["message"]) for flag in manifest.get("flags", ())]
    marked = marks(
        flags, stored.table.select(["label", "clean_prediction", "broken_by"]).to_pandas(), str(manifest["labels"].get("attack"))
    )
    labels = {**manifest["labels"], "model_sha256": model_sha256(manifest["identity"]["model"]), "flags": ", ".join(marked)}
    return {name: labels.get(name) for name in LABELS}


class Store:
    """A folder of finished units.

    Parameters
    ----------
    root : Path
        Made when the first unit is written. `units` holds `<id>.parquet`, `<id>.json` and `<id>.safetensors` (broken images); `claims`,
        `partial` and `failed` say what is being worked on, how far it is, and what went wrong.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.units = root / "units"
        self.claims = Claims(root / "claims")

    def holds(self, unit: str) -> bool:
        """Whether the unit is done: both files there, the outcome file as its manifest says. A damaged or invalid unit is not done."""
        try:
            return "invalid" not in self.read(unit).manifest
        except (DamagedFileError, FileNotFoundError):
            return False

    def partial(self, unit: str) -> PartialFile:
        """What a unit in progress has done so far."""
        return PartialFile(self.root / "partial" / f"{unit}.safetensors")

    def write(self, unit: Unit, outcome: UnitOutcome, facts: Mapping[str, Any]) -> None:
        """Store a unit's outcome; `facts` (timings, environment) stay outside the identity. What was invalid is remembered as `history`."""
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pandas(outcome.frame, _PARQUET, preserve_index=False), buffer, compression="zstd")
        broken = _broken(outcome) if len(outcome.broken_images) else None
        manifest = {
            "schema": SCHEMA_VERSION,
            "unit": unit.id,
            "labels": unit.labels,
            "identity": unit.identity,
            "images": len(outcome.frame),
            "outcomes_sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
            "broken_sha256": None if broken is None else hashlib.sha256(broken).hexdigest(),
            "at_fault": outcome.at_fault,
            "boundary_flips": outcome.boundary_flips,
            "flags": [{"kind": kind, "message": message} for kind, message in outcome.flags],
            **self._history(unit.id),
            **facts,
        }
        # Whoever stops the run waits for the write in hand.
        with held_back():
            self.units.mkdir(parents=True, exist_ok=True)
            if broken is not None:
                place(self.units / f"{unit.id}.safetensors", broken)
            place(self.units / f"{unit.id}.parquet", buffer.getvalue())
            place(self.units / f"{unit.id}.json", _json(manifest))
            self.partial(unit.id).forget()
            (self.root / "failed" / f"{unit.id}.json").unlink(missing_ok=True)

    def read(self, unit: str) -> Stored:
        """Read one unit back.

        Raises
        ------
        FileNotFoundError
            If the unit was never finished.
        DamagedFileError
            If a file is cut short, foreign, of a newer schema, or does not agree with its manifest.
        """
        manifest = self.manifest(unit)
        outcomes = self.units / f"{unit}.parquet"
        if not outcomes.is_file():
            raise DamagedFileError(outcomes, "the outcomes of a finished unit", "no file")
        content = outcomes.read_bytes()
        if hashlib.sha256(content).hexdigest() != manifest["outcomes_sha256"]:
            raise DamagedFileError(outcomes, f"sha256 {manifest['outcomes_sha256']}", f"{len(content)} bytes with another")
        table = pq.ParquetFile(io.BytesIO(content)).read(use_threads=False).replace_schema_metadata(None)
        if manifest["schema"] == 1 and "robust" in table.column_names:
            table = table.add_column(table.column_names.index("robust") + 1, "robust_to_seen", table["robust"])
        if tuple(table.column_names) != COLUMNS:
            raise DamagedFileError(outcomes, f"columns {', '.join(COLUMNS)}", ", ".join(table.column_names))
        return Stored(manifest, table)

    def read_all(self) -> Iterator[Stored | DamagedFileError]:
        """Every finished unit in order of id; a damaged one comes as the error that describes it."""
        for path in sorted(self.units.glob("*.json")):
            try:
                yield self.read(path.stem)
            except DamagedFileError as error:
                yield error

    def manifests(self) -> Iterator[dict[str, Any]]:
        """Manifests of all finished units, in order of id, without a look at their outcomes; what cannot be read is left out."""
        for path in sorted(self.units.glob("*.json")):
            try:
                yield self.manifest(path.stem)
            except DamagedFileError:
                continue

    def manifest(self, unit: str) -> dict[str, Any]:
        """A unit's manifest; errors as `read` raises them."""
        path = self.units / f"{unit}.json"
        try:
            manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if manifest["schema"] > SCHEMA_VERSION:
                raise DamagedFileError(path, f"schema {SCHEMA_VERSION} or older", f"schema {manifest['schema']} (made by a newer version)")
            if manifest["unit"] != unit or not isinstance(manifest["outcomes_sha256"], str) or not isinstance(manifest["at_fault"], bool):
                raise ValueError(f"that of unit {str(manifest['unit'])[:12]}")
            dict(manifest["labels"]), dict(manifest["identity"])
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedFileError(path, "a unit's manifest", f"{type(error).__name__}: {error}") from None
        return manifest

    def broken(self, unit: str) -> tuple[np.ndarray, np.ndarray] | None:
        """The first images that a unit's attack broke, int64 [k], and adversarial minus clean, float16 [k, 3, H, W]; None if none are kept.

        Raises
        ------
        DamagedFileError
            If the file is cut short, not what the manifest says (version 1 has no hash of it), or holds something else.
        """
        path = self.units / f"{unit}.safetensors"
        if not path.is_file():
            return None
        content = path.read_bytes()
        expected = self.manifest(unit).get("broken_sha256")
        if expected is not None and hashlib.sha256(content).hexdigest() != expected:
            raise DamagedFileError(path, f"sha256 {expected}", f"{len(content)} bytes with another")
        try:
            tensors = load(content)
            images, perturbations = tensors["image"], tensors["perturbation"]
        except (SafetensorError, KeyError, ValueError) as error:
            raise DamagedFileError(path, "images and perturbations", f"{type(error).__name__}: {error}") from None
        if images.dtype != np.int64 or images.ndim != 1 or perturbations.ndim != 4 or perturbations.shape[:2] != (len(images), 3):
            raise DamagedFileError(path, "int64 [k] and [k, 3, H, W]", f"{images.dtype} {images.shape} and {perturbations.shape}")
        if not np.isfinite(perturbations).all():
            raise DamagedFileError(path, "finite perturbations", "others")
        return images, perturbations

    def invalidate(self, unit: str, reason: str) -> None:
        """Mark a finished unit as not to be used, with the reason; it counts as missing from then on. Errors as `read` raises them."""
        manifest = self.manifest(unit)
        manifest["invalid"] = {"reason": reason, "when": _now()}
        with held_back():
            place(self.units / f"{unit}.json", _json(manifest))

    def fail(self, unit: Unit, message: str, trace: str = "") -> None:
        """Leave a line about a unit that could not be finished, and the traceback, for whoever looks at the store."""
        folder = self.root / "failed"
        folder.mkdir(parents=True, exist_ok=True)
        place(folder / f"{unit.id}.json", _json({"unit": unit.id, "message": message, "when": _now(), "traceback": trace}))

    def failures(self) -> dict[str, str]:
        """Messages of units that could not be finished, by unit."""
        found = {}
        for path in sorted((self.root / "failed").glob("*.json")):
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                found[str(content["unit"])] = str(content["message"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return found

    def _history(self, unit: str) -> dict[str, Any]:
        """What was said of an earlier outcome of this unit that became invalid."""
        try:
            before = self.manifest(unit)
        except (FileNotFoundError, DamagedFileError):
            return {}
        said = [*before.get("history", []), *([before["invalid"]] if "invalid" in before else [])]
        return {"history": said} if said else {}


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _broken(outcome: UnitOutcome) -> bytes:
    return save({"image": outcome.broken_images, "perturbation": outcome.perturbations})
