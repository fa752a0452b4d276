"""Merging other people's units into a store."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.runner.diagnoses import check_diagnosis
from harness.runner.store import Store
from model_zoo.errors import DamagedFileError


@dataclass
class Merged:
    """Result of a merge: units by what was done, and the number of trainings copied.

    A conflict is a unit whose outcomes differ between the stores; the target store keeps its own.
    """

    copied: list[str] = field(default_factory=list)
    already_stored: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    trainings: int = 0


def merge(store: Store, other: Store) -> Merged:
    """Copy the finished units, diagnoses and trainings that `other` has and `store` lacks."""
    merged = Merged()
    for item in other.read_all():
        if isinstance(item, DamagedFileError):
            merged.damaged.append(str(item))
            continue
        unit, labels = item.manifest.unit, item.manifest.labels
        try:
            pictures = None if other.broken(unit) is None else other.broken_file(unit)
        except DamagedFileError as error:
            merged.damaged.append(str(error))
            continue
        if not store.holds(unit):
            store.adopt(item, pictures)
            merged.copied.append(unit)
        elif store.read(unit).table.equals(item.table):
            merged.already_stored.append(unit)
        else:
            merged.conflicts.append(
                f"{labels.model} · {labels.attack} · {labels.dataset} ({unit[:12]}): outcomes differ, the target keeps its own"
            )
    names = {name for name, _ in store.diagnoses()}
    for name, diagnosis in other.diagnoses():
        try:
            if isinstance(diagnosis, DamagedFileError):
                raise diagnosis
            check_diagnosis(other, name, diagnosis)
        except DamagedFileError as error:
            merged.damaged.append(str(error))
            continue
        if name not in names:
            store.write_diagnosis(name, diagnosis)
    for document in other.trainings.read_all():
        if isinstance(document, DamagedFileError):
            merged.damaged.append(str(document))
        elif not store.trainings.holds(document.training):
            store.trainings.adopt(document, other.trainings)
            merged.trainings += 1
    return merged
