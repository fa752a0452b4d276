"""Door `kills`: runs that are stopped, lose a worker, meet each other or damaged files, and continue when they are run again."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from random import Random

from harness.runner.claims import Claims
from tests.fuzz.frame import Door, store_problems

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
# Seconds within which the workers of a killed run must end, including those that are still importing.
GRACE = 120.0
# Environment variable that marks the processes of one run; /proc/PID/environ shows it.
MARK = "FUZZ_RUN"


def case(random: Random, folder: Path) -> None:
    """Disturb one run, and finish it: the outcomes are those of an undisturbed run, and no finished unit is run again."""
    kind = random.choice((_stopped, _stopped, _stopped, _worker_killed, _two_at_once, _damaged))
    sound = kind(random, folder)
    store = folder / "results"
    written = _written(store)
    _finish(store)
    assert _outcomes(store) == _undisturbed()[1], "other outcomes than those of an undisturbed run"
    again = [unit for unit in sound if _written(store)[unit] != written[unit]]
    assert not again, f"finished units were run again: {again}"
    for pattern in ("claims/*.json", "partial/*.safetensors"):
        assert not list(store.glob(pattern)), f"left: {pattern}"


def _stopped(random: Random, folder: Path) -> set[str]:
    """Send a signal to a run, once or twice at random moments; look for workers and damaged files."""
    store, seconds = folder / "results", _undisturbed()[0]
    for _ in range(random.choice((1, 1, 2))):
        workers = random.choice((1, 2, 4))
        process = _start(store, workers)
        number, moment = random.choice(SIGNALS), random.uniform(0.05, 1.0) * seconds
        while not _hit(process, number, moment):
            # The run ended before: the machine is less busy than it was. A signal that nobody gets is no kill.
            shutil.rmtree(store)
            process, moment = _start(store, workers), moment / 2
        _, stderr = process.communicate(timeout=GRACE)
        assert process.returncode in (0, 1, 130, -number), f"status {process.returncode} after {number.name}: {stderr.decode()[-500:]}"
        assert b"Traceback" not in stderr or number == signal.SIGKILL, stderr.decode()[-2000:]
        _check_ended(store, number.name)
    return set(_outcomes(store))


def _worker_killed(random: Random, folder: Path) -> set[str]:
    """Kill the worker of a unit: the run finishes all the same."""
    store = folder / "results"
    executor = random.choice(("processes", "ray") if find_spec("ray") else ("processes",))
    process = _start(store, 2, "--executor", executor)
    delay, is_killed = random.uniform(0.0, 2.0), False
    while process.poll() is None and not is_killed:
        for claim in Claims(store / "claims").running()[:1]:
            time.sleep(delay)
            try:
                os.kill(claim.pid, signal.SIGKILL)
                is_killed = True
            except ProcessLookupError:
                continue
        time.sleep(0.1)
    _, stderr = process.communicate()
    assert process.returncode == 0, f"{executor}: status {process.returncode}: {stderr.decode()[-1000:]}"
    assert b"Traceback" not in stderr, stderr.decode()[-2000:]
    _check_ended(store, executor)
    return set(_outcomes(store))


def _two_at_once(random: Random, folder: Path) -> set[str]:
    """Start two runs on one store: no unit is run twice."""
    store = folder / "results"
    runs = [_start(store, random.choice((1, 2))) for _ in range(2)]
    count = 0
    for process in runs:
        stderr = process.communicate()[1].decode()
        assert process.returncode == 0, stderr[-1000:]
        found = re.search(r"(\d+) units run", stderr)
        count += int(found[1]) if found else 0
    assert count == len(_undisturbed()[1]), f"{count} units were run"
    return set(_outcomes(store))


def _damaged(random: Random, folder: Path) -> set[str]:
    """Damage the files of one unit of a finished store, or put files of others beside them."""
    store = folder / "results"
    shutil.copytree(Path(_undisturbed()[2].name) / "results", store)
    units = store / "units"
    unit = random.choice(sorted(_outcomes(store)))
    table, manifest = units / f"{unit}.parquet", units / f"{unit}.json"

    def edit(**changes: object) -> None:
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **changes}))

    changes: list[Callable[[], object]] = [
        lambda: table.write_bytes(table.read_bytes()[: random.randrange(200)]),
        lambda: table.unlink(),
        lambda: table.write_bytes(random.randbytes(4000)),
        lambda: manifest.write_text(manifest.read_text()[: random.randrange(90)]),
        lambda: edit(schema=99),
        lambda: edit(unit="0" * 64),
        lambda: edit(outcomes_sha256="0" * 64),
        lambda: [(units / name).write_bytes(b"[1]") for name in ("notes.json", "x.parquet", ".u.json.1.tmp")],
        lambda: _unfinished(store / "claims" / f"{unit}.json", manifest),
        lambda: _unfinished(store / "partial" / f"{unit}.safetensors", manifest),
    ]
    random.choice(changes)()
    return set(_undisturbed()[1]) - {unit}


def _unfinished(path: Path, manifest: Path) -> None:
    """Remove the manifest of a unit and write an old, half-written file of its work."""
    manifest.unlink()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b'{"unit"')
    os.utime(path, (time.time() - 1000, time.time() - 1000))


def _check_ended(store: Path, label: str) -> None:
    """Check that no worker of a run is left, and that its store is not damaged."""
    end = time.monotonic() + GRACE
    while (workers := _processes(str(store.parent))) and time.monotonic() < end:
        time.sleep(0.1)
    assert not workers, f"left after {label}: {workers}"
    assert not (problems := store_problems(store)), problems


def _hit(process: subprocess.Popen[bytes], number: signal.Signals, moment: float) -> bool:
    """Send a signal to a process after `moment` seconds; return False if it had ended before."""
    try:
        process.communicate(timeout=moment)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        return True
    return False


def _start(store: Path, workers: int, *options: str) -> subprocess.Popen[bytes]:
    words = ["run", "--suite", "smoke", "--workers", str(workers), "--store", str(store), "--reports", str(store.parent / "reports")]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", MARK: str(store.parent)}
    command = [sys.executable, "-m", "harness.cli.main", *words, *options]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def _finish(store: Path) -> None:
    process = _start(store, 2)
    _, stderr = process.communicate()
    assert process.returncode == 0, stderr.decode()[-1000:]


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
    """Return the bytes of the outcomes of every unit whose manifest and outcomes are there."""
    tables = {path.stem: path.with_suffix(".parquet") for path in (store / "units").glob("*.json")}
    return {unit: path.read_bytes() for unit, path in tables.items() if path.is_file()}


def _written(store: Path) -> dict[str, int]:
    """Return the time at which each manifest was written, in nanoseconds."""
    return {path.stem: path.stat().st_mtime_ns for path in (store / "units").glob("*.json")}


@cache
def _undisturbed() -> tuple[float, dict[str, bytes], tempfile.TemporaryDirectory[str]]:
    """Return how many seconds a run takes, its outcomes, and the folder of its store, which is removed at exit."""
    started, folder = time.monotonic(), tempfile.TemporaryDirectory(prefix="fuzz")
    store = Path(folder.name) / "results"
    _finish(store)
    return time.monotonic() - started, _outcomes(store), folder


DOOR = Door("kills", full=32, ci=0, case=case, seconds=900)
