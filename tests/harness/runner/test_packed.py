"""Tests of packed stores: unchanged outcomes, newer files next to a pack, and errors for damage."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from harness.cli.main import main
from harness.runner.execute import execute
from harness.runner.packed import MANIFESTS, OUTCOMES, open_pack, rows_sha256
from harness.runner.packing import pack
from harness.runner.plan import Plan, plan_request
from harness.runner.results import find
from harness.runner.store import Store, Stored
from harness.runner.verify import verify
from model_zoo.errors import DamagedFileError, UserError

MODEL = "cifar10-rn8w32-pruned-binary-k05-p01"
OLD = Path(__file__).parent / "old_files"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_request([MODEL], ["pgd-20", "cw-linf", "cw-l2"], "cifar10-sample", 12)


@pytest.fixture(scope="module")
def finished(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("store"))
    execute(plan, store)
    for path in OLD.iterdir():
        shutil.copy(path, store.units)
    return store


@pytest.fixture
def store(finished: Store, tmp_path: Path) -> Store:
    shutil.copytree(finished.root, tmp_path / "store")
    return Store(tmp_path / "store")


def contents(store: Store) -> list[tuple[dict[str, object], pd.DataFrame]]:
    items = list(store.read_all())
    assert all(isinstance(item, Stored) for item in items)
    return [(item.manifest.content(), item.frame) for item in items if isinstance(item, Stored)]


def test_a_packed_store_has_the_same_content_in_two_files(store: Store, plan: Plan) -> None:
    before = contents(store)
    broken = {unit: store.broken(unit) for unit in plan.ids}
    result = pack(store)
    assert result.units == 4 and not result.damaged and result.bytes_packed < result.bytes_removed
    assert not [path for path in store.units.iterdir() if path.suffix != ".safetensors"]
    after = contents(Store(store.root))
    assert [manifest for manifest, _ in after] == [manifest for manifest, _ in before]
    for (_, old), (_, new) in zip(before, after, strict=True):
        pd.testing.assert_frame_equal(old, new)
    for unit in plan.ids:
        assert store.holds(unit)
        assert (broken[unit] is None) == (store.broken(unit) is None)
    assert verify(store).problems == []


def test_packing_is_reproducible(store: Store) -> None:
    pack(store)
    first = [(store.root / name).read_bytes() for name in (OUTCOMES, MANIFESTS)]
    pack(store)
    assert [(store.root / name).read_bytes() for name in (OUTCOMES, MANIFESTS)] == first


def test_new_and_invalidated_units_are_stored_next_to_the_pack_until_repacking(store: Store, plan: Plan) -> None:
    pack(store)
    unit = plan.ids[0]
    store.invalidate(unit, "faulty memory")
    assert not store.holds(unit) and len(store.read(unit).table) == 12
    assert unit not in set(find(store.read_all()).outcomes["unit"])
    pack(store)
    assert not store.holds(unit)
    execute(plan, store)
    assert store.holds(unit) and store.manifest(unit).history[0].reason == "faulty memory"
    assert (store.units / f"{unit}.parquet").exists()
    pack(store)
    assert store.holds(unit) and not (store.units / f"{unit}.parquet").exists()


def test_interrupted_packing_loses_nothing(store: Store, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(store)
    before = contents(store)
    store.invalidate(plan.ids[0], "faulty memory")
    execute(plan, store)

    def stop(path: Path, content: bytes) -> None:
        if path.name == MANIFESTS:
            raise KeyboardInterrupt
        path.write_bytes(content)

    with monkeypatch.context() as patched:
        patched.setattr("harness.runner.compressed.place", stop)
        with pytest.raises(KeyboardInterrupt):
            pack(store)
    assert len(contents(store)) == len(before)
    files = {path: path.read_bytes() for path in store.units.iterdir()}
    pack(store)
    for path, content in files.items():
        path.write_bytes(content)
    assert len(contents(store)) == len(before), "files that are packed but not yet deleted count once"
    pack(store)
    assert not list(store.units.glob("*.json"))


def test_pictures_may_be_deleted(store: Store, plan: Plan) -> None:
    pack(store)
    pictures = list(store.units.glob("*.safetensors"))
    assert pictures
    for path in pictures:
        path.unlink()
    assert all(store.broken(unit) is None for unit in plan.ids)
    result = CliRunner().invoke(main, ["store", "verify", "--store", str(store.root)])
    assert result.exit_code == 0 and f"pictures of {len(pictures)} units" in result.stderr


@pytest.mark.parametrize("name", [OUTCOMES, MANIFESTS])
@pytest.mark.parametrize("damage", [b"", b"cut", None])
def test_damage_is_a_one_line_error_and_prevents_packing(store: Store, plan: Plan, name: str, damage: bytes | None) -> None:
    pack(store)
    path = store.root / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if damage is None else damage)
    reopened = Store(store.root)
    assert not reopened.holds(plan.ids[0])
    errors = [item for item in reopened.read_all() if isinstance(item, DamagedFileError)]
    assert len(errors) == 1 and name in str(errors[0])
    with pytest.raises(UserError, match=name):
        pack(reopened)
    result = CliRunner().invoke(main, ["store", "verify", "--store", str(store.root)])
    assert result.exit_code == 1 and name in result.stderr.replace("\n", "")


def test_changed_outcomes_in_a_pack_are_detected(store: Store, plan: Plan) -> None:
    pack(store)
    path = store.root / OUTCOMES
    table = pq.read_table(path)
    robust = table["robust"].to_pylist()
    robust[0] = not robust[0]
    pq.write_table(table.set_column(table.column_names.index("robust"), "robust", pa.array(robust)), path)
    errors = [item for item in store.read_all() if isinstance(item, DamagedFileError)]
    assert len(errors) == 1 and "packed" in str(errors[0]), "only the unit of the first row is damaged"


def test_a_missing_outcomes_pack_is_reported(store: Store) -> None:
    pack(store)
    (store.root / OUTCOMES).unlink()
    assert any(isinstance(item, DamagedFileError) for item in store.read_all())


def test_a_newer_pack_is_an_error(store: Store) -> None:
    pack(store)
    text = json.dumps({"schema": 99, "units": [], "diagnoses": {}}).encode()
    (store.root / MANIFESTS).write_bytes(pa.Codec("zstd").compress(text, asbytes=True))
    with pytest.raises(DamagedFileError, match="schema 99"):
        open_pack(store.root)


def test_a_store_in_use_is_not_packed(store: Store, plan: Plan) -> None:
    with store.claims.claimed(plan.ids[0]), pytest.raises(UserError, match="is in use"):
        pack(store)


def test_packed_units_can_be_merged(store: Store, plan: Plan, tmp_path: Path) -> None:
    pack(store)
    result = CliRunner().invoke(main, ["store", "merge", str(store.root), "--store", str(tmp_path / "mine")])
    assert result.exit_code == 0 and "4 units copied" in result.output
    assert all(Store(tmp_path / "mine").holds(unit) for unit in plan.ids)
    assert verify(Store(tmp_path / "mine")).problems == []


def test_the_hash_of_outcomes_depends_on_values_only(store: Store, plan: Plan) -> None:
    table = store.read(plan.ids[0]).table
    chunked = pa.concat_tables([table.slice(0, 5), table.slice(5)])
    assert rows_sha256(chunked) == rows_sha256(table) != rows_sha256(table.slice(1))
    encoded = table.set_column(table.column_names.index("broken_by"), "broken_by", table["broken_by"].dictionary_encode())
    assert rows_sha256(encoded) == rows_sha256(table)


def test_the_command_reports_its_result_and_rejects_other_folders(store: Store, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["store", "pack", "--store", str(store.root)])
    assert result.exit_code == 0 and "4 units" in result.output
    assert "is not a store" in CliRunner().invoke(main, ["store", "pack", "--store", str(tmp_path / "none")]).output
