"""Everything in a store hashed again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from harness.runner.identity import unit_id
from harness.runner.store import Store
from model_zoo.errors import DamagedFileError

SUFFIXES = (".json", ".parquet", ".safetensors")


def verify(store: Store) -> tuple[int, list[str]]:
    """How many units are sound, and a line for everything else: damaged, foreign and forgotten files, identities that are another's."""
    problems: list[str] = []
    sound = 0
    for item in store.read_all():
        if isinstance(item, DamagedFileError):
            problems.append(str(item))
            continue
        unit = item.manifest["unit"]
        wrong = [*_identity(store.units / f"{unit}.json", unit, item.manifest["identity"]), *_broken(store, unit)]
        problems += wrong
        sound += not wrong
    problems += _strays(store.units)
    for path in sorted((store.root / "diagnostics").glob("*.json")):
        try:
            problems += _identity(path, path.stem, json.loads(path.read_text(encoding="utf-8"))["identity"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            problems.append(str(DamagedFileError(path, "a model's diagnostics", f"{type(error).__name__}: {error}")))
    return sound, problems


def _identity(path: Path, name: str, identity: dict[str, object]) -> list[str]:
    found = unit_id(identity)
    return [] if found == name else [str(DamagedFileError(path, "an identity that hashes to its name", found))]


def _broken(store: Store, unit: str) -> list[str]:
    """The images that the attack broke first, against the manifest; version 1 has no hash of them."""
    expected, path = store.manifest(unit).get("broken_sha256"), store.units / f"{unit}.safetensors"
    if expected is None or not path.exists():
        return [] if expected is None else [f"{path}: missing, its manifest names it"]
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    return [] if found == expected else [str(DamagedFileError(path, f"sha256 {expected}", found))]


def _strays(folder: Path) -> Iterator[str]:
    """Files that belong to no unit."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix == ".tmp":
            yield f"{path}: left behind by a run that was killed; safe to delete"
        elif path.suffix not in SUFFIXES:
            yield f"{path}: not a file of this store"
        elif path.suffix != ".json" and not path.with_suffix(".json").exists():
            yield f"{path}: belongs to no finished unit; safe to delete"
