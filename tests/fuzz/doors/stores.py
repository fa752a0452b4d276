"""Door `stores`: manifests, outcomes, pictures, packs, diagnoses, claims and failures, valid or modified."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save

from harness.runner.diagnoses import diagnoses
from harness.runner.identity import unit_id
from harness.runner.merge import merge
from harness.runner.packed import MANIFESTS, OUTCOMES, rows_sha256
from harness.runner.results import find
from harness.runner.store import Store, Stored
from harness.runner.verify import verify
from tests.fuzz.frame import Door, check_line, command, tree_sha256
from tests.fuzz.made_store import Unit, pristine_stores
from tests.fuzz.values import NUMBERS, damaged, nested, of_another_type, places, set_at, value_at


def case(random: Random, folder: Path) -> None:
    """Change one file of a store, then read, verify, show and merge the store."""
    working, packed, units = pristine_stores()
    is_packed = random.random() < 0.35
    shutil.copytree(packed if is_packed else working, folder / "store")
    store, target = Store(folder / "store"), Store(folder / "target")
    shutil.copytree(working, target.root)
    unit = random.choice(sorted(units))
    change = random.choice(PACKED_CHANGES if is_packed else WORKING_CHANGES)
    file, expected = change(random, store, unit)
    before, target_before = tree_sha256(store.root), tree_sha256(target.root)

    items = list(store.read_all())
    usable = find(items)
    assert all(unit_id(item.manifest.identity) == item.manifest.unit for item in items if isinstance(item, Stored))
    verified = verify(store)
    for line in verified.problems:
        check_line(line, "")
    named = [line for line in verified.problems if file in line]
    if expected == "refused":
        assert named, f"{change.__name__}: verify passes {file}: {verified.problems}"
    elif expected == "same":
        assert not verified.problems, f"refused: {verified.problems}"
    for item in items:
        if isinstance(item, Stored) and item.manifest.unit in units:
            _check_same(item, units[item.manifest.unit])
    assert set(usable.outcomes["unit"]) <= set(units), "outcomes of a unit that nobody computed"
    diagnoses(store)
    store.failures()
    store.claims.running()

    # The target does not change, and damaged units are reported.
    merged = merge(target, store)
    assert tree_sha256(target.root) == target_before, f"{change.__name__}: merged into the target"
    for line in merged.damaged + merged.conflicts:
        check_line(line, "")
    if random.random() < 0.005:
        result = command("store", "verify", "--store", store.root)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert bool(result.exit_code) == bool(verified.problems), f"verify ends with {result.exit_code}: {result.stderr[-500:]}"
        for arguments in (("show", "cifar10-rn8s29-dense"), ("status", "--suite", "smoke")):
            result = command(*arguments, "--store", store.root)
            assert result.exception is None or isinstance(result.exception, SystemExit), f"{arguments}: {result.exception!r}"
    assert tree_sha256(store.root) == before, "reading changed the store"


def _check_same(stored: Stored, unit: Unit) -> None:
    assert stored.table.sort_by("image").equals(unit.table), "read as other outcomes"
    for name in ("unit", "identity", "images"):
        assert getattr(stored.manifest, name) == getattr(unit.manifest, name), f"read as another {name}"


Change = Callable[[Random, Store, str], tuple[str, str]]


def _damaged_file(random: Random, store: Store, unit: str) -> tuple[str, str]:
    path = random.choice([store.units / f"{unit}.{suffix}" for suffix in ("json", "parquet", "safetensors")])
    path.write_bytes(damaged(random, path.read_bytes()))
    # A manifest remains valid if only free text is damaged.
    return (path.name, "unless free") if path.suffix == ".json" else (path.name, "refused")


def _damaged_side_file(random: Random, store: Store, unit: str) -> tuple[str, str]:
    paths = sorted(path for folder in ("claims", "failed", "diagnostics") for path in (store.root / folder).glob("*.json"))
    path = random.choice(paths)
    if random.random() < 0.3:
        path.write_text(nested(random))
    else:
        path.write_bytes(damaged(random, path.read_bytes()))
    return path.name, "unless free"


def _changed_document(random: Random, content: dict[str, Any]) -> str:
    """Change a document in place in a way that must be detected; return the kind of change."""
    kind = random.choice(["type", "type", "number", "missing", "unknown", "identity", "label"])
    if kind == "type":
        options = [place for place in places(content) if place[:2] != ("identity", "attack") and value_at(content, place) is not None]
        place = random.choice(options)
        set_at(content, place, of_another_type(random, value_at(content, place)))
    elif kind == "number":
        bad = [number for number in NUMBERS if not 0 <= number < 2**31 or number != number]
        set_at(content, random.choice([("images",), ("schema",)]), random.choice(bad))
    elif kind == "missing":
        del content[random.choice(["unit", "labels", "identity", "images", "outcomes_sha256", "at_fault", "boundary_flips"])]
    elif kind == "unknown":
        random.choice([content, content["labels"]])["colour"] = "red"
    elif kind == "label":
        label = random.choice(["dataset", "norm", "radius", "attack", "seed", "protocol", "unit"])
        content["labels"][label] = 7 if label in ("seed", "protocol") else "other"
    else:
        # A unit with another identity under its correct name: complete except for fields that readers need.
        identity = content["identity"]
        place = random.choice(
            [("model",), ("data",), ("threat",), ("attack",), ("data", "dataset"), ("threat", "radius"), ("attack", "name")]
        )
        value_at(identity, place[:-1]).pop(place[-1])
        if random.random() < 0.5:
            content["unit"] = content["labels"]["unit"] = unit_id(identity)
    return kind


def _foreign_manifest(random: Random, store: Store, unit: str) -> tuple[str, str]:
    path = store.units / f"{unit}.json"
    content = json.loads(path.read_text())
    _changed_document(random, content)
    if random.random() < 0.5 and isinstance(content.get("unit"), str) and len(content["unit"]) == 64:
        for suffix in ("parquet", "safetensors", "json"):
            (store.units / f"{unit}.{suffix}").rename(store.units / f"{content['unit']}.{suffix}")
        path = store.units / f"{content['unit']}.json"
    path.write_text(json.dumps(content))
    return path.name, "refused"


def _free_manifest(random: Random, store: Store, unit: str) -> tuple[str, str]:
    path = store.units / f"{unit}.json"
    content = json.loads(path.read_text())
    set_at(content, random.choice([("labels", "model"), ("labels", "family")]), random.choice(["", "ü", "a" * 1000, "\x1b[31m", "[bold]"]))
    path.write_text(json.dumps(content, indent=random.choice([None, 1, 4])))
    return path.name, "same"


def _nested_manifest(random: Random, store: Store, unit: str) -> tuple[str, str]:
    path = store.units / f"{unit}.json"
    text = nested(random) if random.random() < 0.5 else nested(random, '{"a":', "}").replace('{"a":}', '{"a":1}')
    path.write_text(random.choice([text, path.read_text().replace('"identity": {', f'"identity": {{"x": {text},', 1)]))
    return path.name, "refused"


def _duplicate_key_in_manifest(random: Random, store: Store, unit: str) -> tuple[str, str]:
    path = store.units / f"{unit}.json"
    path.write_text(path.read_text().replace('"images": 6', '"images": 5, "images": 6', 1))
    return path.name, "refused"


def _renamed(random: Random, store: Store, unit: str) -> tuple[str, str]:
    name = random.choice(["0" * 64, "x", unit[:-1], unit.upper(), f"{unit} "])
    for suffix in ("parquet", "safetensors", "json"):
        (store.units / f"{unit}.{suffix}").rename(store.units / f"{name}.{suffix}")
    return f"{name}.json", "refused"


def _changed_table(random: Random, table: pa.Table) -> tuple[pa.Table, str]:
    """Return an invalid table of outcomes, or the same rows in another order."""
    kind = random.choice(["order", "type", "null", "drop", "extra", "fewer", "more", "twice", "range", "nan", "contradiction", "unnamed"])
    names = table.column_names
    name = random.choice([name for name in names if name != "broken_by"])
    position = names.index(name)

    def with_values(name: str, values: list[Any]) -> pa.Table:
        return table.set_column(names.index(name), name, pa.array(values, table.schema.field(name).type))

    if kind == "order":
        order = list(range(table.num_rows))
        random.shuffle(order)
        return table.take(order), "same"
    if kind == "type":
        return table.set_column(position, name, pa.array([str(value) for value in table[name].to_pylist()])), "refused"
    if kind == "null":
        return with_values(name, [None, *table[name].to_pylist()[1:]]), "refused"
    if kind == "drop" and name != "robust_to_seen":
        return table.drop_columns([name]), "refused"
    if kind == "extra":
        return table.append_column("colour", table[name]), "refused"
    if kind == "fewer":
        return table.slice(1), "refused"
    if kind == "more":
        return pa.concat_tables([table, table.slice(0, 1)]), "refused"
    if kind == "range":
        name = random.choice(["image", "label", "clean_prediction", "adversarial_prediction", "forwards", "backwards"])
        return with_values(name, [-2, *table[name].to_pylist()[1:]]), "refused"
    if kind == "nan":
        return with_values("linf", [random.choice([float("nan"), float("inf"), -1.0]), *[0.0] * (table.num_rows - 1)]), "refused"
    if kind == "contradiction":
        return with_values("robust", [not value for value in table["robust"].to_pylist()]), "refused"
    if kind == "unnamed":
        return table.rename_columns(["", *names[1:]]), "refused"
    return with_values("image", [0] * table.num_rows), "refused"


def _parquet(random: Random, table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression=random.choice(["zstd", "none", "snappy", "gzip"]))
    return buffer.getvalue()


def _changed_outcomes(random: Random, store: Store, unit: str) -> tuple[str, str]:
    """Replace the outcomes, and their hash in the manifest."""
    path = store.units / f"{unit}.parquet"
    table, expected = _changed_table(random, pristine_stores()[2][unit].table)
    path.write_bytes(_parquet(random, table))
    manifest = json.loads(path.with_suffix(".json").read_text())
    manifest["outcomes_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(manifest))
    return path.name, expected


def _changed_pictures(random: Random, store: Store, unit: str) -> tuple[str, str]:
    path = store.units / f"{unit}.safetensors"
    images, values = np.arange(2), np.zeros((2, 3, 4, 4), np.float16)
    tensors = random.choice(
        [
            {"image": images.astype(np.float32), "perturbation": values},
            {"image": images, "perturbation": values[:1]},
            {"image": images, "perturbation": values * np.float16("nan")},
            {"image": images, "perturbation": values.astype(np.float64)},
            {"image": images},
            {},
            {"image": images, "perturbation": values, "colour": images},
        ]
    )
    content = save(tensors) if random.random() < 0.8 else nested(random).encode()
    path.write_bytes(content)
    manifest = json.loads(path.with_suffix(".json").read_text())
    manifest["broken_sha256"] = hashlib.sha256(content).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(manifest))
    return path.name, "refused"


def _folder_for_file(random: Random, store: Store, unit: str) -> tuple[str, str]:
    path = store.units / f"{unit}.{random.choice(['json', 'parquet', 'safetensors'])}"
    path.unlink()
    path.mkdir()
    return path.name, "refused"


def _changed_diagnosis(random: Random, store: Store, unit: str) -> tuple[str, str]:
    path = next((store.root / "diagnostics").glob("*.json"))
    content = json.loads(path.read_text())
    options = [place for place in places(content) if value_at(content, place) is not None]
    options = [place for place in options if place[:2] != ("labels", "engine")]
    place = random.choice(options)
    set_at(content, place, of_another_type(random, value_at(content, place)))
    path.write_text(json.dumps(content))
    return path.name, "refused"


def _damaged_pack(random: Random, store: Store, unit: str) -> tuple[str, str]:
    path = store.root / random.choice([OUTCOMES, MANIFESTS])
    path.write_bytes(damaged(random, path.read_bytes()))
    # Parquet files contain some bytes that are never read.
    return path.name, "unless free"


def _changed_manifests(random: Random, store: Store, unit: str) -> tuple[str, str]:
    path = store.root / MANIFESTS
    content = json.loads(pa.input_stream(io.BytesIO(path.read_bytes()), compression="zstd").read())
    entry = next(entry for entry in content["units"] if entry["manifest"]["unit"] == unit)
    kind = random.choice(["manifest", "manifest", "twice", "nested", "type", "same", "diagnosis"])
    text = None
    if kind == "manifest":
        _changed_document(random, entry["manifest"])
    elif kind == "twice":
        content["units"].append(copy.deepcopy(entry))
    elif kind == "type":
        place = random.choice(
            [("schema",), ("units",), ("units", 0), ("units", 0, "rows_sha256"), ("units", 0, "manifest"), ("diagnoses",)]
        )
        set_at(content, place, of_another_type(random, value_at(content, place)))
    elif kind == "diagnosis":
        name = next(iter(content["diagnoses"]))
        content["diagnoses"][random.choice(["x", "0" * 64])] = content["diagnoses"].pop(name)
    elif kind == "nested":
        text = nested(random) if random.random() < 0.5 else nested(random, '{"a":', "}").replace('{"a":}', '{"a":1}')
    text = json.dumps(content) if text is None else text
    path.write_bytes(pa.Codec("zstd").compress(text.encode(), asbytes=True))
    return ("" if kind == "diagnosis" else path.name), ("same" if kind == "same" else "refused")


def _changed_packed_outcomes(random: Random, store: Store, unit: str) -> tuple[str, str]:
    path = store.root / OUTCOMES
    tables, hashes = [], {}
    for name, pristine in sorted(pristine_stores()[2].items()):
        table, expected_of_unit = _changed_table(random, pristine.table) if name == unit else (pristine.table, "same")
        if name == unit:
            expected = expected_of_unit
        tables.append(table.add_column(0, "unit", pa.array([name] * table.num_rows, pa.string())))
        hashes[name] = rows_sha256(table) if expected_of_unit == "same" else ""
    rows = pa.concat_tables(tables, promote_options="permissive") if _same_schema(tables) else tables[sorted(hashes).index(unit)]
    path.write_bytes(_parquet(random, rows))
    manifests = store.root / MANIFESTS
    content = json.loads(pa.input_stream(io.BytesIO(manifests.read_bytes()), compression="zstd").read())
    for entry in content["units"]:
        entry["rows_sha256"] = hashes[entry["manifest"]["unit"]] or entry["rows_sha256"]
    manifests.write_bytes(pa.Codec("zstd").compress(json.dumps(content).encode(), asbytes=True))
    return path.name, expected


def _same_schema(tables: list[pa.Table]) -> bool:
    return all(table.schema == tables[0].schema for table in tables)


WORKING_CHANGES: list[Change] = [
    _damaged_file,
    _damaged_file,
    _damaged_side_file,
    _foreign_manifest,
    _foreign_manifest,
    _free_manifest,
    _nested_manifest,
    _duplicate_key_in_manifest,
    _renamed,
    _changed_outcomes,
    _changed_outcomes,
    _changed_pictures,
    _folder_for_file,
    _changed_diagnosis,
]
PACKED_CHANGES: list[Change] = [_damaged_pack, _damaged_pack, _changed_manifests, _changed_manifests, _changed_packed_outcomes]

DOOR = Door("stores", full=4_000, ci=40, case=case)
