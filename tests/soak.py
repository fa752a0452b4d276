"""Soak test that runs one small plan repeatedly under bad conditions: python -m tests.soak (about ten minutes; --quick for two).

The run is killed with SIGKILL at random times with one, two and four workers, loses a worker on Ray, and meets a full disk and damaged
files. Each time it is then run to its end: the outcomes must equal those of an undisturbed run byte for byte, and no finished unit may
run again. Exits with status 1 at the first difference. The full disk is a small tmpfs, which needs root; Ray needs the extra `ray`.
Checks that cannot run on this machine are listed at the end.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from harness.runner.claims import Claims

# At this radius almost no image survives AutoAttack's second component, so the run is short and still has components to be killed in.
PLAN = ["--n", "24", "--radius", "48/255", "--attack", "pgd-20", "--attack", "cw-linf", "--attack", "autoattack"]
PLAN += ["--model", "cifar10-rn8s29-dense-binary", "--model", "cifar10-rn8w32-pruned-binary-k05-p01"]
UNITS = 6
SECONDS = 15 * 60
COMMAND = [sys.executable, "-m", "harness.cli.main", "run", *PLAN]


def start(store: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start a run in a new process group and return its process."""
    folders = ["--store", str(store), "--reports", str(store / "reports")]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen(
        [*COMMAND, *folders, *options], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def finish(store: Path, *options: str, expected: int = 0) -> str:
    """Run to the end, check the exit status, and return the text written to standard error."""
    process = start(store, *options)
    stderr = process.communicate(timeout=600)[1].decode()
    check(process.returncode == expected, f"exit status {process.returncode}, not {expected}: {stderr[-500:]}")
    return stderr


def outcomes(store: Path) -> dict[str, bytes]:
    """Return the bytes of the outcomes of every unit that has a manifest."""
    tables = {path.stem: path.with_suffix(".parquet") for path in (store / "units").glob("*.json")}
    return {unit: path.read_bytes() for unit, path in tables.items() if path.exists()}


def write_times(store: Path) -> dict[str, int]:
    """Return the time of writing of each manifest, in nanoseconds since the epoch."""
    return {path.stem: path.stat().st_mtime_ns for path in (store / "units").glob("*.json")}


def check(condition: bool, message: str) -> None:
    """Exit with `message` if `condition` is false."""
    if not condition:
        sys.exit(f"WRONG: {message}")


def check_same(store: Path, undisturbed: Path, label: str) -> None:
    """Check that the outcomes of both stores have the same bytes, and that no claims or partial files remain."""
    check(outcomes(store) == outcomes(undisturbed), f"{label}: outcomes differ from the undisturbed run")
    for folder in ("claims", "partial"):
        remaining = [path.name for path in (store / folder).glob("*")] if (store / folder).exists() else []
        check(not remaining, f"{label}: left in {folder}: {remaining}")


def check_kills(folder: Path, undisturbed: Path, kills: int, workers: int, chance: random.Random) -> str:
    """Kill the run and its workers `kills` times, then let it finish; a kill after the end of a run does not count."""
    store = folder / f"killed-{workers}"
    done: dict[str, int] = {}
    killed_runs = 0
    while killed_runs < kills:
        if len(done) == UNITS:
            # Everything is done, so start again with an empty store.
            shutil.rmtree(store)
            done = {}
        process = start(store, "--workers", str(workers))
        time.sleep(chance.uniform(3.0, 14.0))
        killed_runs += process.poll() is None
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        manifests = write_times(store)
        check(all(manifests.get(unit) == written_at for unit, written_at in done.items()), "a finished unit was lost or run again")
        check(set(outcomes(store)) == set(manifests), "a manifest without outcomes")
        done = manifests
    finish(store, "--workers", str(workers))
    check(all(write_times(store)[unit] == written_at for unit, written_at in done.items()), "a finished unit was run again")
    check_same(store, undisturbed, f"{workers} workers")
    return f"{killed_runs} runs killed while they ran, with {workers} workers"


def check_simultaneous_runs(folder: Path, undisturbed: Path) -> str:
    """Check that two simultaneous runs on one store run no unit twice."""
    store = folder / "at-once"
    runs = [start(store, "--workers", "1") for _ in range(2)]
    counts = []
    for process in runs:
        stderr = process.communicate(timeout=600)[1].decode()
        check(process.returncode == 0, f"two at once: {stderr[-500:]}")
        counts.append(int(re.search(r"(\d+) units run", stderr)[1]))  # type: ignore[index]
    check(sum(counts) == UNITS, f"two at once ran {counts[0]} and {counts[1]} of {UNITS} units")
    check_same(store, undisturbed, "two runs at once")
    return f"two runs at once on one store: {counts[0]} units and {counts[1]}"


def check_ray(folder: Path, undisturbed: Path) -> str:
    """Kill the Ray worker of a unit and check that the run still finishes with the same outcomes."""
    store, kills = folder / "ray", 0
    process = start(store, "--workers", "2", "--executor", "ray")
    while process.poll() is None and not kills:
        for claim in Claims(store / "claims").running()[:1]:
            time.sleep(1.0)
            with suppress(ProcessLookupError):
                os.kill(claim.pid, signal.SIGKILL)
                kills += 1
        time.sleep(0.2)
    stderr = process.communicate(timeout=600)[1].decode()
    check(process.returncode == 0 and kills == 1, f"Ray: exit status {process.returncode}, {kills} killed: {stderr[-500:]}")
    check_same(store, undisturbed, "Ray")
    return "a Ray worker killed in the middle of a unit"


def check_full_disk(folder: Path, undisturbed: Path) -> str | None:
    """Fill a small disk, then enlarge it and run again; return None if no tmpfs can be mounted."""
    disk = folder / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", str(disk)], capture_output=True, check=False).returncode:
        return None
    try:
        stderr = finish(disk / "store", "--workers", "2", expected=1)
        check("No space left" in stderr, f"a full disk is not named: {stderr[-300:]}")
        done = write_times(disk / "store")
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        finish(disk / "store", "--workers", "2")
        check(all(write_times(disk / "store")[unit] == written_at for unit, written_at in done.items()), "a finished unit was run again")
        check_same(disk / "store", undisturbed, "full disk")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    return f"a disk that was full after {len(done)} units"


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


DAMAGE: dict[str, Callable[[Path, str], object]] = {
    "outcomes cut short": lambda units, unit: (units / f"{unit}.parquet").write_bytes((units / f"{unit}.parquet").read_bytes()[:200]),
    "empty outcomes": lambda units, unit: (units / f"{unit}.parquet").write_bytes(b""),
    "no outcomes": lambda units, unit: (units / f"{unit}.parquet").unlink(),
    "other bytes": lambda units, unit: (units / f"{unit}.parquet").write_bytes(os.urandom(4000)),
    "manifest cut short": lambda units, unit: (units / f"{unit}.json").write_text((units / f"{unit}.json").read_text()[:90]),
    "empty manifest": lambda units, unit: (units / f"{unit}.json").write_text(""),
    "manifest of a newer version": lambda units, unit: _edit(units / f"{unit}.json", schema=99),
    "manifest of another unit": lambda units, unit: _edit(units / f"{unit}.json", unit="0" * 64),
    "hash of other outcomes": lambda units, unit: _edit(units / f"{unit}.json", outcomes_sha256="0" * 64),
    "foreign files": lambda units, unit: [(units / name).write_bytes(b"[1]") for name in ("notes.json", "x.parquet", ".u.json.1.tmp")],
    "abandoned claim": lambda units, unit: _write_leftover(units.parent / "claims" / f"{unit}.json", units, unit),
    "damaged partial state": lambda units, unit: _write_leftover(units.parent / "partial" / f"{unit}.safetensors", units, unit),
}


def _write_leftover(path: Path, units: Path, unit: str) -> None:
    """Write an old, truncated file for a unit that is not finished."""
    (units / f"{unit}.json").unlink()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b'{"unit"')
    old = time.time() - 1000
    os.utime(path, (old, old))


def check_damage(folder: Path, undisturbed: Path, damage: str) -> None:
    """Damage the first unit's files, run, and check that only this unit was run again."""
    store = folder / "damaged"
    shutil.rmtree(store, ignore_errors=True)
    shutil.copytree(undisturbed, store)
    units = sorted(outcomes(store))
    before = write_times(store)
    DAMAGE[damage](store / "units", units[0])
    finish(store, "--workers", "1")
    check(all(write_times(store)[unit] == before[unit] for unit in units[1:]), f"{damage}: a sound unit was run again")
    check({unit: outcomes(store)[unit] for unit in units} == outcomes(undisturbed), f"{damage}: outcomes differ")


def main() -> None:
    """Run all checks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three kills and two kinds of damage")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    chance, start_time, skipped = random.Random(options.seed), time.monotonic(), []

    def report(line: str) -> None:
        sys.stdout.write(f"{time.monotonic() - start_time:6.0f} s  {line}\n")
        sys.stdout.flush()
        check(time.monotonic() - start_time < SECONDS, "more than fifteen minutes")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        undisturbed = folder / "undisturbed"
        finish(undisturbed, "--workers", "1")
        check(len(outcomes(undisturbed)) == UNITS, "the undisturbed run is not whole")
        report("undisturbed run")
        for workers in (1, 2, 4):
            report(check_kills(folder, undisturbed, 1 if options.quick else 10, workers, chance))
        report(check_simultaneous_runs(folder, undisturbed))
        if importlib.util.find_spec("ray"):
            report(check_ray(folder, undisturbed))
        else:
            skipped.append("Ray (the extra is not installed)")
        disk = check_full_disk(folder, undisturbed)
        if disk:
            report(disk)
        else:
            skipped.append("the full disk (no tmpfs can be mounted)")
        kinds = list(DAMAGE)[:2] if options.quick else list(DAMAGE)
        for item in kinds:
            check_damage(folder, undisturbed, item)
        report(f"{len(kinds)} kinds of damage: {', '.join(kinds)}")
    report("outcomes identical throughout, nothing lost, no finished unit run again" + "".join(f"; skipped: {item}" for item in skipped))


if __name__ == "__main__":
    main()
