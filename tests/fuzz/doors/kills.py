"""Kills: a run with two workers gets a signal at a random moment, and continues when it is run again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from random import Random

from tests.fuzz.frame import Door, damage

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
# Seconds after the death of a run within which its workers have ended too, even those that were still importing.
GRACE = 120.0
# Environment variable whose value marks the processes of one run, with the prefix of /proc/PID/environ.
MARK = "FUZZ_RUN"


def case(random: Random, folder: Path) -> None:
    """Stop one run, look for workers and damaged files, and finish it."""
    seconds, expected = _undisturbed()
    store = folder / "results"
    process = _start(store, str(folder))
    number, moment = random.choice(SIGNALS), random.uniform(0.05, 1.0) * seconds
    while not _hit(process, number, moment):
        # The run ended before: the machine is less busy than it was. A signal that nobody gets is no kill.
        shutil.rmtree(store)
        process, moment = _start(store, str(folder)), moment / 2
    _, stderr = process.communicate(timeout=GRACE)
    assert process.returncode in (0, 1, 130, -number), f"status {process.returncode} after {number.name}: {stderr.decode()[-500:]}"
    assert b"Traceback" not in stderr or number == signal.SIGKILL, stderr.decode()[-2000:]
    end = time.monotonic() + GRACE
    while (workers := _processes(str(folder))) and time.monotonic() < end:
        time.sleep(0.1)
    assert not workers, f"left after {number.name}: {workers}"
    assert not (problems := damage(store)), problems
    finished = _outcomes(store)
    again = _start(store, str(folder))
    _, stderr = again.communicate()
    assert again.returncode == 0, stderr.decode()[-1000:]
    outcomes = _outcomes(store)
    assert outcomes == expected, "other outcomes than those of an undisturbed run"
    assert finished.items() <= outcomes.items(), "a finished outcome has changed"
    assert not list((store / "claims").glob("*.json")), "claims are left"


def _hit(process: subprocess.Popen[bytes], number: signal.Signals, moment: float) -> bool:
    """Send a signal to a process after `moment` seconds; return False if it had ended before."""
    try:
        process.communicate(timeout=moment)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        return True
    return False


def _start(store: Path, mark: str) -> subprocess.Popen[bytes]:
    words = ["run", "--suite", "smoke", "--workers", "2", "--store", str(store), "--reports", str(store.parent / "reports")]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", MARK: mark}
    command = [sys.executable, "-m", "harness.cli.main", *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def _processes(mark: str) -> list[str]:
    """Return the command lines of running processes that have the mark in their environment (none on systems without /proc)."""
    lines = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (path / "environ").read_bytes().split(b"\0"):
                lines.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200])
        except OSError:
            continue
    return lines


def _outcomes(store: Path) -> dict[str, bytes]:
    """Return the bytes of the outcomes of every finished unit."""
    tables = {path.stem: path.with_suffix(".parquet") for path in (store / "units").glob("*.json")}
    return {unit: path.read_bytes() for unit, path in tables.items()}


@cache
def _undisturbed() -> tuple[float, dict[str, bytes]]:
    """Return how many seconds a run takes, and its outcomes."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        process = _start(Path(folder) / "results", folder)
        _, stderr = process.communicate()
        assert process.returncode == 0, stderr.decode()[-1000:]
        return time.monotonic() - started, _outcomes(Path(folder) / "results")


DOOR = Door("kills", full=32, ci=0, case=case, seconds=900)
