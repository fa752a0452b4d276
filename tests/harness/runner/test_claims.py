"""Tests of claims: a unit has one owner at a time, and its claim becomes free when the owner is gone."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from harness.runner import claims
from harness.runner.claims import Claims


def test_a_claim_has_one_owner_and_is_free_afterwards(tmp_path: Path) -> None:
    owner, rival = Claims(tmp_path / "claims"), Claims(tmp_path / "claims")
    with owner.claimed("unit") as lease:
        assert lease is not None and [claim.unit for claim in rival.running()] == ["unit"]
        with rival.claimed("unit") as second:
            assert second is None
        with rival.claimed("another") as third:
            assert third is not None
    assert rival.running() == [] and list((tmp_path / "claims").iterdir()) == []
    with rival.claimed("unit") as retaken:
        assert retaken is not None


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def write_claim(folder: Path, **changes: object) -> Path:
    """Write a claim as another process would have left it, and return its path."""
    folder.mkdir(exist_ok=True)
    path = folder / "unit.json"
    content = {"unit": "unit", "host": claims._host(), "pid": os.getppid(), "token": "theirs", "since": time.time()}
    path.write_text(json.dumps({**content, **changes}))
    return path


def test_a_dead_local_owner_loses_its_claim_immediately(tmp_path: Path) -> None:
    write_claim(tmp_path / "claims", pid=dead_pid())
    assert Claims(tmp_path / "claims").running() == []
    with Claims(tmp_path / "claims").claimed("unit") as lease:
        assert lease is not None


def test_a_remote_owner_keeps_its_claim_until_the_lease_expires(tmp_path: Path) -> None:
    path = write_claim(tmp_path / "claims", host="elsewhere", pid=dead_pid())
    with Claims(tmp_path / "claims").claimed("unit") as lease:
        assert lease is None
    expired = time.time() - claims.LEASE - 5
    os.utime(path, (expired, expired))
    with Claims(tmp_path / "claims").claimed("unit") as lease:
        assert lease is not None


def test_a_partially_written_claim_is_respected_until_it_expires(tmp_path: Path) -> None:
    path = write_claim(tmp_path / "claims")
    path.write_text("")
    with Claims(tmp_path / "claims").claimed("unit") as lease:
        assert lease is None
    expired = time.time() - claims.LEASE - 5
    os.utime(path, (expired, expired))
    with Claims(tmp_path / "claims").claimed("unit") as lease:
        assert lease is not None


def test_a_heartbeat_refreshes_a_claim_and_records_progress(tmp_path: Path) -> None:
    owner = Claims(tmp_path / "claims", heartbeat=0.02)
    with owner.claimed("unit") as lease:
        assert lease is not None
        expired = time.time() - claims.LEASE - 5
        os.utime(lease.path, (expired, expired))
        lease.set_progress(0.5, "square")
        for _ in range(200):
            running = owner.running()
            if running and running[0].fraction == 0.5:
                break
            time.sleep(0.02)
        assert running[0].component == "square" and running[0].fraction == 0.5


def test_one_of_many_simultaneous_processes_gets_an_abandoned_claim(tmp_path: Path) -> None:
    write_claim(tmp_path / "claims", pid=dead_pid())
    barrier, ended, winners = threading.Barrier(8), threading.Barrier(8), []

    def take() -> None:
        barrier.wait()
        with Claims(tmp_path / "claims").claimed("unit") as lease:
            if lease is not None:
                winners.append(lease)
            ended.wait()

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) == 1


def test_the_first_owner_does_not_remove_a_claim_that_was_taken_over(tmp_path: Path) -> None:
    owner = Claims(tmp_path / "claims")
    with owner.claimed("unit") as lease:
        assert lease is not None
        write_claim(tmp_path / "claims")
    assert json.loads((tmp_path / "claims" / "unit.json").read_text())["token"] == "theirs"


def test_a_claim_with_a_future_time_expires(tmp_path: Path) -> None:
    path = write_claim(tmp_path / "claims", host="elsewhere", pid=dead_pid())
    later = time.time() + 86400
    os.utime(path, (later, later))
    with Claims(tmp_path / "claims").claimed("unit") as lease:
        assert lease is not None
