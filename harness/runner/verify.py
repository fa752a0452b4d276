"""Verification of a store: every hash computed again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness.runner.documents import Manifest
from harness.runner.identity import unit_id
from harness.runner.store import Store
from harness.runner.trainings import TrainingDocument, Trainings
from model_zoo.errors import DamagedFileError
from model_zoo.packing.packed import check_file

SUFFIXES = (".json", ".parquet", ".safetensors")


@dataclass
class Verified:
    """The number of sound units, diagnoses and trainings, of units whose pictures the store does not contain, and one line per problem."""

    units: int = 0
    diagnoses: int = 0
    trainings: int = 0
    without_pictures: int = 0
    problems: list[str] = field(default_factory=list)


def verify(store: Store) -> Verified:
    """Check every outcome, identity, picture and diagnosis against its hash, and list stray files."""
    result = Verified()
    for item in store.read_all():
        if isinstance(item, DamagedFileError):
            result.problems.append(str(item))
            continue
        manifest = item.manifest
        problems = _identity_problems(store.units / f"{manifest.unit}.json", manifest.unit, manifest.identity)
        content = store.broken_file(manifest.unit)
        if content is None:
            result.without_pictures += manifest.broken_sha256 is not None
        else:
            problems += _picture_problems(store, manifest, content)
        result.problems += problems
        result.units += not problems
    for name, diagnosis in store.diagnoses():
        path = store.root / "diagnostics" / f"{name}.json"
        problems = [str(diagnosis)] if isinstance(diagnosis, DamagedFileError) else _identity_problems(path, name, diagnosis.identity)
        result.problems += problems
        result.diagnoses += not problems
    for document in store.trainings.read_all():
        problems = [str(document)] if isinstance(document, DamagedFileError) else _training_problems(store.trainings, document)
        result.problems += problems
        result.trainings += not problems
    result.problems += _stray_files(store)
    return result


def _identity_problems(path: Path, name: str, identity: dict[str, object]) -> list[str]:
    actual = unit_id(identity)
    return [] if actual == name else [str(DamagedFileError(path, "an identity that hashes to its name", actual))]


def _training_problems(trainings: Trainings, document: TrainingDocument) -> list[str]:
    """Check a training's identity and record, and its checkpoint if the store has it."""
    problems = _identity_problems(trainings.document_path(document.training), document.training, document.identity)
    try:
        checkpoint = document.model().checkpoint
        path = trainings.record_path(document).with_name(checkpoint.file)
        if path.is_file():
            check_file(path, checkpoint.sha256, checkpoint.bytes)
    except DamagedFileError as error:
        problems.append(str(error))
    return problems


def _picture_problems(store: Store, manifest: Manifest, content: bytes) -> list[str]:
    """Check the first broken images against the manifest; a manifest of version 1 has no hash of them."""
    actual, expected = hashlib.sha256(content).hexdigest(), manifest.broken_sha256
    path = store.units / f"{manifest.unit}.safetensors"
    return [] if expected in (None, actual) else [str(DamagedFileError(path, f"sha256 {expected}", actual))]


def _stray_files(store: Store) -> Iterator[str]:
    """List files that belong to no unit."""
    units = set(store.ids())
    for path in sorted(store.units.iterdir()) if store.units.is_dir() else ():
        if path.suffix == ".tmp":
            yield f"{path}: left behind by a run that was killed; safe to delete"
        elif path.suffix not in SUFFIXES:
            yield f"{path}: not a file of this store"
        elif path.stem not in units:
            yield f"{path}: belongs to no finished unit; safe to delete"
