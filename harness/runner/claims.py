"""Claims: file-based leases on units in a store, refreshed by a heartbeat; an expired lease may be taken over.

Every process that sees the store sees the claims, so several runs on one store divide its units among them. A claim whose owner has died
is taken over at once on the same machine, and after `LEASE` seconds on another one. If the owner was only slow, the unit is computed and
written twice with the same outcome: claims save time, and correctness does not depend on them.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.runner.documents import Claim
from model_zoo.errors import DamagedFileError
from model_zoo.files import clock

# Seconds without a heartbeat after which a claim is abandoned, and seconds between two heartbeats.
LEASE = 120.0
HEARTBEAT = 15.0


class Claims:
    """The claims in a folder; `heartbeat` is the time between two heartbeats in seconds."""

    def __init__(self, folder: Path, heartbeat: float = HEARTBEAT) -> None:
        self.folder, self.heartbeat = folder, heartbeat

    def running(self) -> list[Claim]:
        """Return the claims whose owners are alive, sorted by unit."""
        claims = []
        for path in sorted(self.folder.glob("*.json")):
            claim = _read(path)
            if claim is not None and not self._is_abandoned(path, claim):
                claims.append(claim)
        return claims

    def abandoned(self) -> list[Claim]:
        """Return the claims of processes on this machine that ended without releasing them, sorted by unit."""
        claims = [_read(path) for path in sorted(self.folder.glob("*.json"))]
        return [claim for claim in claims if claim is not None and claim.host == _host() and not _is_alive(claim.pid)]

    def release_dead(self, lease: float) -> None:
        """Release the claims of processes on this machine that have ended, and those without a heartbeat for `lease` seconds."""
        for path in sorted(self.folder.glob("*.json")):
            with suppress(OSError):
                claim = _read(path)
                is_dead = claim is not None and claim.host == _host() and not _is_alive(claim.pid)
                # As for any work, only one of several processes can take a claim over.
                if (is_dead or self._is_expired(path, lease)) and (taken := self._take(path.stem)) is not None:
                    taken.release()

    @contextmanager
    def claimed(self, unit: str) -> Iterator[Lease | None]:
        """Hold the claim on a unit while the block runs; yield None if another process holds it."""
        lease = self._take(unit)
        if lease is None:
            yield None
            return
        heartbeat = threading.Thread(target=lease.keep_fresh, args=(self.heartbeat,), daemon=True)
        heartbeat.start()
        try:
            yield lease
        finally:
            lease.release()
            heartbeat.join()

    def _take(self, unit: str) -> Lease | None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{unit}.json"
        new_claim = Claim(unit=unit, host=_host(), pid=os.getpid(), token=uuid.uuid4().hex, since=time.time())
        try:
            _create(path, new_claim)
            return Lease(path, new_claim)
        except FileExistsError:
            return Lease(path, new_claim) if self._take_over(path, new_claim) else None

    def _take_over(self, path: Path, new_claim: Claim) -> bool:
        """Replace an abandoned claim by `new_claim`; return False if that one is alive, or another process was faster."""
        claim = _read(path)
        if not self._is_replaceable(path, claim):
            return False
        # Of the processes that saw the same abandoned claim, only the one that makes this file may replace it.
        lock = path.with_name(f".{path.stem}.{claim.token if claim else 'unread'}.tmp")
        try:
            _create(lock, new_claim)
        except FileExistsError:
            if self._is_replaceable(lock, _read(lock)):
                # The process whose turn it was has died; without its file, the next attempt can succeed.
                lock.unlink(missing_ok=True)
            return False
        try:
            # Another process may have replaced the claim, and removed its own file, since this one read it.
            if _read(path) != claim:
                return False
            temporary = path.with_name(f".{path.name}.{new_claim.token}.tmp")
            _create(temporary, new_claim)
            temporary.replace(path)
            return True
        finally:
            lock.unlink(missing_ok=True)

    def _is_replaceable(self, path: Path, claim: Claim | None) -> bool:
        """Return whether a claim is abandoned; an unreadable one counts as still being written unless it is old."""
        return self._is_expired(path) if claim is None else self._is_abandoned(path, claim)

    def _is_abandoned(self, path: Path, claim: Claim) -> bool:
        if claim.host == _host() and not _is_alive(claim.pid):
            return True
        return self._is_expired(path)

    def _is_expired(self, path: Path, lease: float = LEASE) -> bool:
        """Return whether the last heartbeat is older than `lease` seconds, by the clock of the file system."""
        try:
            # A claim dated far in the future is as abandoned as an old one: some clock was wrong.
            return abs(clock(self.folder) - path.stat().st_mtime) > lease
        except FileNotFoundError:
            return True


class Lease:
    """A claim that this process holds."""

    def __init__(self, path: Path, claim: Claim) -> None:
        self.path, self.claim = path, claim
        self._released = threading.Event()

    def set_progress(self, fraction: float, component: str) -> None:
        """Set the progress of the work, which is written with the next heartbeat."""
        self.claim = self.claim.model_copy(update={"fraction": fraction, "component": component})

    def keep_fresh(self, heartbeat: float) -> None:
        """Write a heartbeat every `heartbeat` seconds until the claim is released."""
        while not self._released.wait(heartbeat):
            with suppress(OSError):
                if (current := _read(self.path)) is not None and current.token == self.claim.token:
                    temporary = self.path.with_name(f".{self.path.name}.{self.claim.token}.tmp")
                    temporary.write_bytes(self.claim.to_bytes())
                    temporary.replace(self.path)

    def release(self) -> None:
        """Release the claim, unless another process has taken it over."""
        self._released.set()
        with suppress(OSError):
            if (current := _read(self.path)) is not None and current.token == self.claim.token:
                self.path.unlink()


def _create(path: Path, claim: Claim) -> None:
    """Write a new file; raise a FileExistsError if it exists."""
    with path.open("xb") as file:
        try:
            file.write(claim.to_bytes())
            file.flush()
        except OSError:
            # The disk may be full, and an empty claim would block other processes for a while.
            path.unlink(missing_ok=True)
            raise


def _read(path: Path) -> Claim | None:
    try:
        return Claim.read(path)
    except (OSError, DamagedFileError):
        return None


def _host() -> str:
    """Return a name for this machine and the PID namespace in which a pid identifies a process."""
    try:
        return f"{socket.gethostname()}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return socket.gethostname()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
