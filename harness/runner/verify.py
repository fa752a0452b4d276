"""Verification of a store: every hash computed again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.runner.diagnoses import check_diagnosis
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
        problems = []
        try:
            result.without_pictures += store.broken(manifest.unit) is None and manifest.broken_sha256 is not None
        except DamagedFileError as error:
            problems.append(str(error))
        result.problems += problems
        result.units += not problems
    for name, document in store.diagnoses():
        try:
            if isinstance(document, DamagedFileError):
                raise document
            check_diagnosis(store, name, document)
            result.diagnoses += 1
        except DamagedFileError as error:
            result.problems.append(str(error))
    for training in store.trainings.read_all():
        problems = [str(training)] if isinstance(training, DamagedFileError) else _training_problems(store.trainings, training)
        result.problems += problems
        result.trainings += not problems
    result.problems += _stray_files(store)
    return result


def _training_problems(trainings: Trainings, document: TrainingDocument) -> list[str]:
    """Check a training's checkpoint if the store has it."""
    problems = []
    try:
        checkpoint = document.model().checkpoint
        path = trainings.record_path(document).with_name(checkpoint.file)
        if path.is_file():
            check_file(path, checkpoint.sha256, checkpoint.bytes)
    except DamagedFileError as error:
        problems.append(str(error))
    return problems


def _stray_files(store: Store) -> Iterator[str]:
    """List files that belong to no unit; none if the pack is damaged, because its units are then unknown."""
    try:
        units = set(store.ids())
    except DamagedFileError:
        return
    for path in sorted(store.units.iterdir()) if store.units.is_dir() else ():
        if path.suffix == ".tmp":
            yield f"{path}: left behind by a run that was killed; safe to delete"
        elif path.suffix not in SUFFIXES:
            yield f"{path}: not a file of this store"
        elif path.stem not in units:
            yield f"{path}: belongs to no finished unit; safe to delete"
