"""Tests that leftovers of dead processes are removed, and that nothing else is."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.runner.claims import _host
from harness.runner.documents import Claim
from harness.runner.execute import run_until_done
from harness.runner.executors import Resources
from harness.runner.leftovers import sweep
from harness.runner.store import Store

DAY = 24 * 3600


def write(path: Path, age: float = 0.0, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def claim(store: Store, unit: str, pid: int, host: str, age: float) -> Path:
    document = Claim(unit=unit, host=host, pid=pid, token="0" * 32, since=time.time() - age)
    return write(store.claims.folder / f"{unit}.json", age, document.to_bytes())


@pytest.fixture
def dead() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("folder", ["units", "claims", "partial", "failed", "diagnostics", "trainings", "trainings/abc"])
def test_temporary_files_are_removed_after_a_day(folder: str, tmp_path: Path) -> None:
    old = write(tmp_path / folder / f".{'a' * 32}.tmp", 1.5 * DAY)
    kept = [
        write(tmp_path / folder / f".{'b' * 32}.tmp", 0.5 * DAY),
        write(tmp_path / folder / "notes.tmp", 9 * DAY),
        write(tmp_path / folder / "x.json", 9 * DAY) if folder != "claims" else write(tmp_path / "x", 9 * DAY),
        write(tmp_path / f".{'c' * 32}.tmp", 9 * DAY),
        write(tmp_path / "other" / f".{'d' * 32}.tmp", 9 * DAY),
    ]
    assert sweep(Store(tmp_path)) == [old]
    assert not old.exists() and all(path.exists() for path in kept)


def test_claims_of_the_dead_are_removed(dead: int, tmp_path: Path) -> None:
    store = Store(tmp_path)
    removed = [
        claim(store, "dead", dead, _host(), 1.0),
        claim(store, "old", 1, "elsewhere/1", 1.5 * DAY),
        write(store.claims.folder / "unreadable.json", 1.5 * DAY, b"{"),
    ]
    kept = [
        claim(store, "alive", os.getpid(), _host(), 1.0),
        claim(store, "elsewhere", dead, "elsewhere/1", 0.5 * DAY),
        write(store.claims.folder / "being-written.json", 1.0, b"{"),
    ]
    sweep(store)
    assert not [path for path in removed if path.exists()]
    assert all(path.exists() for path in kept)
    assert sorted(path.name for path in store.claims.folder.iterdir()) == sorted(path.name for path in kept)


def test_a_run_sweeps_and_a_store_that_does_not_exist_is_not_made(dead: int, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert not list(run_until_done([], store, "in-process", Resources(1), lambda event: None))
    assert not store.root.exists()
    path = claim(store, "dead", dead, _host(), 1.0)
    assert not list(run_until_done([], store, "in-process", Resources(1), lambda event: None))
    assert not path.exists()
