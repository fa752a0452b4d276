"""Other people's units taken up into a store."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.runner.identity import unit_id
from harness.runner.store import Store
from model_zoo.errors import DamagedFileError
from model_zoo.files import place


@dataclass
class Merged:
    """Units by what became of them; a conflict is a unit that both stores have with different outcomes, of which ours stays."""

    taken: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def merge(store: Store, other: Store) -> Merged:
    """Copy what `other` has and `store` has not: finished units, and diagnostics."""
    found = Merged()
    for item in other.read_all():
        if isinstance(item, DamagedFileError):
            found.damaged.append(str(item))
            continue
        unit = item.manifest["unit"]
        if unit_id(item.manifest["identity"]) != unit:
            found.damaged.append(str(DamagedFileError(other.units / f"{unit}.json", "an identity that hashes to its name", "another")))
        elif not store.holds(unit):
            _copy(store, other, unit)
            found.taken.append(unit)
        elif store.read(unit).table.equals(item.table):
            found.held.append(unit)
        else:
            labels = item.manifest["labels"]
            found.conflicts.append(
                f"{labels['model']} · {labels['attack']} · {labels['dataset']} ({unit[:12]}): outcomes differ, ours stay"
            )
    for path in sorted((other.root / "diagnostics").glob("*.json")):
        mine = store.root / "diagnostics" / path.name
        if not mine.exists():
            mine.parent.mkdir(parents=True, exist_ok=True)
            place(mine, path.read_bytes())
    return found


def _copy(store: Store, other: Store, unit: str) -> None:
    """The manifest last: until then the unit is not done."""
    store.units.mkdir(parents=True, exist_ok=True)
    for suffix in ("safetensors", "parquet", "json"):
        path = other.units / f"{unit}.{suffix}"
        if path.exists():
            place(store.units / path.name, path.read_bytes())
