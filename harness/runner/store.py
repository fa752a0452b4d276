"""Store of finished units, content-addressed by unit identity, in two forms that may exist side by side.

A working store has one Parquet file and one JSON manifest per unit in `units/`. A packed store has one of each for all units
(`harness.runner.packed`). A unit's own files take precedence over the pack. Files appear by atomic rename, the manifest last: a run that
is killed leaves units that are done and units that are not.
"""

from __future__ import annotations

import hashlib
import io
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save

from harness.evaluation.marks import marks
from harness.evaluation.outcomes import SCHEMA, UnitOutcome, check_outcomes
from harness.runner.claims import Claims
from harness.runner.documents import DiagnosisDocument, Failure, Labels, Manifest, UnitFlag, Withdrawal
from harness.runner.identity import model_sha256, unit_id
from harness.runner.packed import Pack, open_pack
from harness.runner.partial import PartialFile
from harness.runner.plan import Unit
from harness.runner.signals import deferred_signals
from harness.runner.tables import read_parquet
from harness.runner.training_unit import TrainingUnit
from harness.runner.trainings import Trainings
from model_zoo.errors import DamagedFileError
from model_zoo.files import place
from model_zoo.tensor_files import read_tensors

logger = logging.getLogger(__name__)

# Columns that identify a unit and its model in frames of outcomes.
LABELS = (*Labels.model_fields, "model_sha256", "flags")


@dataclass(frozen=True)
class Stored:
    """One finished unit: its manifest, and its outcomes as a table with the columns of `outcomes.SCHEMA`."""

    manifest: Manifest
    table: pa.Table

    @property
    def frame(self) -> pd.DataFrame:
        """The outcomes as a frame, with the columns `LABELS` in front."""
        frame = self.table.to_pandas()
        return pd.concat([pd.DataFrame(labels_of(self), index=frame.index), frame], axis=1)


def labels_of(stored: Stored) -> dict[str, Any]:
    """Return the values of `LABELS` for a unit; `flags` are its marks (`harness.evaluation.marks`), comma-separated."""
    manifest = stored.manifest
    flags = [(flag.kind, flag.message) for flag in manifest.flags]
    unit_marks = marks(flags, stored.table.select(["label", "clean_prediction", "broken_by"]).to_pandas(), manifest.labels.attack)
    return {**manifest.labels.model_dump(), "model_sha256": model_sha256(manifest.identity["model"]), "flags": ", ".join(unit_marks)}


class Store:
    """A folder of finished units.

    Parameters
    ----------
    root : Path
        Created when the first unit is written. `units` contains `<id>.parquet`, `<id>.json` and `<id>.safetensors` (broken images),
        `diagnostics` the models' diagnoses, `trainings` trained models; `claims`, `partial` and `failed` contain the claims on units,
        the states of interrupted ones, and the errors of failed ones.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.units = root / "units"
        self.claims = Claims(root / "claims")
        self.trainings = Trainings(root)

    @property
    def exists(self) -> bool:
        """Whether the folder is a store, working or packed."""
        return self.units.is_dir() or self.pack is not None or bool(self.trainings.ids())

    @property
    def pack(self) -> Pack | None:
        """The packed units; None if there are none. Raises a DamagedFileError if they cannot be read."""
        return open_pack(self.root)

    def ids(self) -> list[str]:
        """Return the ids of all finished units, sorted; also of units whose files turn out to be damaged."""
        pack = self.pack
        return sorted({path.stem for path in self.units.glob("*.json")} | set(pack.manifests if pack is not None else ()))

    def holds(self, unit: str) -> bool:
        """Return whether the unit is done: readable, and not declared invalid."""
        try:
            return self.read(unit).manifest.invalid is None
        except (DamagedFileError, FileNotFoundError):
            return False

    def partial(self, unit: str) -> PartialFile:
        """Return the state of a unit in progress."""
        return PartialFile(self.root / "partial" / f"{unit}.safetensors")

    def write(self, unit: Unit, outcome: UnitOutcome, facts: Mapping[str, Any]) -> None:
        """Store a unit's outcome. `facts` (fields of `Manifest` such as the run time) stay outside the identity."""
        manifest = Manifest(
            unit=unit.id,
            labels=Labels(**unit.labels),
            identity=unit.identity,
            images=len(outcome.frame),
            outcomes_sha256="",
            at_fault=outcome.at_fault,
            boundary_flips=outcome.boundary_flips,
            flags=tuple(UnitFlag(kind=kind, message=message) for kind, message in outcome.flags),
            history=self._history(unit.id),
            **facts,
        )
        broken = _broken_file(outcome) if len(outcome.broken_images) else None
        self._write_files(manifest, pa.Table.from_pandas(outcome.frame, SCHEMA, preserve_index=False), broken)
        self.partial(unit.id).forget()
        (self.root / "failed" / f"{unit.id}.json").unlink(missing_ok=True)

    def adopt(self, stored: Stored, broken: bytes | None) -> None:
        """Store a unit that another store has finished, with the file of its broken images if there is one."""
        self._write_files(stored.manifest, stored.table, broken)

    def read(self, unit: str) -> Stored:
        """Read one unit.

        Raises
        ------
        FileNotFoundError
            If the unit was never finished.
        DamagedFileError
            If a file is cut short, foreign, of a newer schema, or does not agree with its manifest.
        """
        manifest = self.manifest(unit)
        outcomes = self.units / f"{unit}.parquet"
        pack = self.pack
        if pack is not None and unit in pack.manifests and not (outcomes.is_file() and (self.units / f"{unit}.json").is_file()):
            return Stored(manifest, pack.table(unit))
        if not outcomes.is_file():
            raise DamagedFileError(outcomes, "the outcomes of a finished unit", "no file")
        content = outcomes.read_bytes()
        if hashlib.sha256(content).hexdigest() != manifest.outcomes_sha256:
            raise DamagedFileError(outcomes, f"sha256 {manifest.outcomes_sha256}", f"{len(content)} bytes with another")
        table = read_parquet(content, outcomes, "outcomes", manifest.images)
        # Outcomes of version 1 record only what the attack returned.
        if "robust" in table.column_names and "robust_to_seen" not in table.column_names:
            table = table.add_column(table.column_names.index("robust") + 1, "robust_to_seen", table["robust"])
        fault = check_outcomes(table, manifest.images)
        if fault is not None:
            raise DamagedFileError(outcomes, f"outcomes of {manifest.images} images", fault)
        return Stored(manifest, table.cast(SCHEMA))

    def read_all(self) -> Iterator[Stored | DamagedFileError]:
        """Yield every finished unit in order of id; for a damaged one, the error that describes it."""
        reported = set()
        try:
            names = self.ids()
        except DamagedFileError as error:
            yield error
            return
        for unit in names:
            try:
                yield self.read(unit)
            except DamagedFileError as error:
                # One damaged pack is one error, whatever the number of its units.
                if str(error) not in reported:
                    reported.add(str(error))
                    yield error

    def manifests(self) -> Iterator[Manifest]:
        """Yield the manifests of all finished units in order of id, without reading outcomes; unreadable ones are left out."""
        try:
            names = self.ids()
        except DamagedFileError:
            return
        for unit in names:
            try:
                yield self.manifest(unit)
            except DamagedFileError as error:
                logger.warning("left out: %s", error)

    def manifest(self, unit: str) -> Manifest:
        """Return a unit's manifest. Raises the same errors as `read`."""
        path = self.units / f"{unit}.json"
        try:
            manifest = Manifest.read(path)
        except FileNotFoundError:
            pack = self.pack
            if pack is None or unit not in pack.manifests:
                raise
            return pack.manifests[unit]
        if manifest.unit != unit:
            raise DamagedFileError(path, "a unit's manifest", f"that of unit {manifest.unit[:12]}")
        return manifest

    def broken(self, unit: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the first images that a unit's attack broke, int64 [k], and adversarial minus clean, float16 [k, 3, H, W].

        None if the store does not contain them.

        Raises
        ------
        DamagedFileError
            If the file is cut short, differs from the manifest's hash (version 1 has none), or contains something else.
        """
        path = self.units / f"{unit}.safetensors"
        content = self.broken_file(unit)
        if content is None:
            return None
        expected = self.manifest(unit).broken_sha256
        if expected is not None and hashlib.sha256(content).hexdigest() != expected:
            raise DamagedFileError(path, f"sha256 {expected}", f"{len(content)} bytes with another")
        tensors, _ = read_tensors(path, "images and perturbations")
        if set(tensors) != {"image", "perturbation"}:
            raise DamagedFileError(path, "images and perturbations", f"the tensors {sorted(tensors)}")
        images, perturbations = tensors["image"], tensors["perturbation"]
        is_sound = images.dtype == np.int64 and images.ndim == 1 and perturbations.ndim == 4
        if not is_sound or perturbations.shape[:2] not in ((len(images), 1), (len(images), 3)):
            expected_shapes = "int64 [k] and [k, 3, H, W] or [k, 1, H, W]"
            raise DamagedFileError(path, expected_shapes, f"{images.dtype} {images.shape} and {perturbations.shape}")
        if perturbations.dtype != np.float16 or not np.isfinite(perturbations).all():
            raise DamagedFileError(path, "finite float16 perturbations", f"{perturbations.dtype}, or values that are not finite")
        return images, perturbations

    def broken_file(self, unit: str) -> bytes | None:
        """Return the file of a unit's broken images as it is; None if there is none."""
        path = self.units / f"{unit}.safetensors"
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DamagedFileError(path, "images and perturbations", error.strerror or str(error)) from None

    def invalidate(self, unit: str, reason: str) -> None:
        """Declare a finished unit invalid: it counts as missing from then on. Raises the same errors as `read`."""
        manifest = self.manifest(unit).model_copy(update={"invalid": Withdrawal(reason=reason, when=_now())})
        with deferred_signals():
            self.units.mkdir(parents=True, exist_ok=True)
            place(self.units / f"{unit}.json", manifest.to_bytes())

    def fail(self, unit: Unit | TrainingUnit, message: str, trace: str = "") -> None:
        """Record why a unit could not be finished: one line, and the traceback."""
        folder = self.root / "failed"
        folder.mkdir(parents=True, exist_ok=True)
        place(folder / f"{unit.id}.json", Failure(unit=unit.id, message=message, when=_now(), traceback=trace).to_bytes())

    def failures(self) -> dict[str, str]:
        """Return the messages of units that could not be finished, by unit."""
        messages = {}
        for path in sorted((self.root / "failed").glob("*.json")):
            try:
                failure = Failure.read(path)
            except (OSError, DamagedFileError):
                continue
            messages[failure.unit] = failure.message
        return messages

    def diagnoses(self) -> Iterator[tuple[str, DiagnosisDocument | DamagedFileError]]:
        """Yield every diagnosis with the hash of its identity, in that order; for a damaged one, the error that describes it."""
        folder = self.root / "diagnostics"
        try:
            pack = self.pack
        except DamagedFileError:
            pack = None
        packed = pack.diagnoses if pack is not None else {}
        for name in sorted({path.stem for path in folder.glob("*.json")} | set(packed)):
            path = folder / f"{name}.json"
            try:
                document = DiagnosisDocument.read(path)
            except FileNotFoundError:
                document = packed[name]
            except DamagedFileError as error:
                yield name, error
                continue
            if unit_id(document.identity) == name:
                yield name, document
            else:
                yield name, DamagedFileError(path, "an identity that hashes to its name", unit_id(document.identity))

    def write_diagnosis(self, name: str, document: DiagnosisDocument) -> None:
        """Store a diagnosis; `name` is the hash of its identity."""
        path = self.root / "diagnostics" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        place(path, document.to_bytes())

    def _write_files(self, manifest: Manifest, table: pa.Table, broken: bytes | None) -> None:
        """Write a unit's files, the manifest last; a signal that stops the run waits for them."""
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        hashes = {"outcomes_sha256": hashlib.sha256(buffer.getvalue()).hexdigest()}
        if broken is not None:
            hashes["broken_sha256"] = hashlib.sha256(broken).hexdigest()
        with deferred_signals():
            self.units.mkdir(parents=True, exist_ok=True)
            if broken is not None:
                place(self.units / f"{manifest.unit}.safetensors", broken)
            place(self.units / f"{manifest.unit}.parquet", buffer.getvalue())
            place(self.units / f"{manifest.unit}.json", manifest.model_copy(update=hashes).to_bytes())

    def _history(self, unit: str) -> tuple[Withdrawal, ...]:
        """Return why earlier outcomes of this unit were declared invalid."""
        try:
            earlier = self.manifest(unit)
        except (FileNotFoundError, DamagedFileError):
            return ()
        return (*earlier.history, *(() if earlier.invalid is None else (earlier.invalid,)))


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _broken_file(outcome: UnitOutcome) -> bytes:
    return save({"image": outcome.broken_images, "perturbation": outcome.perturbations})
