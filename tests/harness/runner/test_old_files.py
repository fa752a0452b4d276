"""Tests that files written by earlier versions still load; `old_files` contains a file of each version permanently."""

import json
import shutil
from pathlib import Path

import pytest

from harness.evaluation.outcomes import COLUMNS
from harness.runner.store import Store
from model_zoo.errors import DamagedFileError

OLD = Path(__file__).parent / "old_files"
UNITS = {json.loads(path.read_text())["schema"]: path.stem for path in sorted(OLD.glob("*.json"))}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    shutil.copytree(OLD, tmp_path / "units")
    return Store(tmp_path)


def test_version_1_contains_only_the_returned_examples(store: Store) -> None:
    frame = store.read(UNITS[1]).frame
    assert set(COLUMNS) <= set(frame.columns) and len(frame) == 40
    assert frame["robust_to_seen"].equals(frame["robust"].rename("robust_to_seen"))
    assert frame["robust"].any() and not frame["robust"].all()
    assert store.holds(UNITS[1])


def test_the_hash_of_an_old_file_is_checked(store: Store) -> None:
    path = store.units / f"{UNITS[1]}.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedFileError, match="sha256"):
        store.read(UNITS[1])
