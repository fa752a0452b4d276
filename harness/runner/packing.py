"""Packing a working store: its units and diagnoses moved into one file of outcomes and one of manifests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from harness.runner.documents import DiagnosisDocument
from harness.runner.packed import write_pack
from harness.runner.store import Store
from model_zoo.errors import DamagedFileError, UserError


@dataclass
class Packing:
    """Result of packing: units, diagnoses and trainings in the pack, its bytes, bytes removed, and one line per damaged file."""

    units: int
    diagnoses: int
    trainings: int
    bytes_packed: int
    bytes_removed: int
    damaged: list[str] = field(default_factory=list)


def pack(store: Store) -> Packing:
    """Pack every readable unit, diagnosis and training of a store, and remove the files they came from.

    Pictures of broken images and trained models stay beside the pack. Damaged files stay as they are.

    Raises
    ------
    UserError
        If units of the store are being worked on, or an existing pack is damaged.
    """
    claims = store.claims.running()
    if claims:
        raise UserError(f"{store.root} is in use: {len(claims)} units are being worked on; pack it when they are done")
    # A damaged pack must not be replaced by the few units that have files of their own.
    if store.pack is not None:
        store.pack.check()
    units, diagnoses, damaged = {}, {}, []
    for item in store.read_all():
        if isinstance(item, DamagedFileError):
            damaged.append(str(item))
        else:
            units[item.manifest.unit] = (item.manifest, item.table)
    for name, diagnosis in store.diagnoses():
        if isinstance(diagnosis, DiagnosisDocument):
            diagnoses[name] = diagnosis
        else:
            damaged.append(str(diagnosis))
    trainings = {}
    for document in store.trainings.read_all():
        if isinstance(document, DamagedFileError):
            damaged.append(str(document))
        else:
            trainings[document.training] = document
    paths = [*write_pack(store.root, units, diagnoses), *store.trainings.write_pack(trainings.values())]
    # Manifests go first: a unit whose manifest is gone is read from the pack.
    bytes_removed = _remove(store.units / f"{unit}{suffix}" for suffix in (".json", ".parquet") for unit in units)
    bytes_removed += _remove(store.root / "diagnostics" / f"{name}.json" for name in diagnoses)
    bytes_removed += _remove(store.trainings.document_path(name) for name in trainings)
    return Packing(len(units), len(diagnoses), len(trainings), sum(path.stat().st_size for path in paths), bytes_removed, damaged)


def _remove(paths: Iterable[Path]) -> int:
    """Remove the files that exist; return their size in bytes."""
    size = 0
    for path in paths:
        if path.is_file():
            size += path.stat().st_size
            path.unlink()
    return size
