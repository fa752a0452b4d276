"""Who is working on what: a claim on a unit is a file in the store, kept fresh while the work goes on, and free to take once it is not.

Every process that sees the store sees the claims, so two runs on one store share its units out between them. A claim whose owner has died
is taken over at once on the same machine and after `LEASE` seconds elsewhere. If an owner was only slow, a unit is computed twice and
written twice with the same outcome: a claim saves time, it does not guard correctness.
"""

from __future__ import annotations

import multiprocessing
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

# Seconds without a sign of life after which a claim is nobody's, and seconds between two signs of life.
LEASE = 120.0
BEAT = 15.0


class Claims:
    """The claims in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def running(self) -> list[Claim]:
        """Claims whose owners live, by unit."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            claim = _read(path)
            if claim is not None and not self._abandoned(path, claim):
                found.append(claim)
        return found

    def abandoned(self) -> list[Claim]:
        """Claims of processes of this machine that ended without giving them up, by unit."""
        claims = [_read(path) for path in sorted(self.folder.glob("*.json"))]
        return [claim for claim in claims if claim is not None and claim.host == _host() and not _alive(claim.pid)]

    @contextmanager
    def claimed(self, unit: str) -> Iterator[Held | None]:
        """Hold the claim on a unit while the block runs; None where another holds it."""
        held = self._take(unit)
        if held is None:
            yield None
            return
        beats = threading.Thread(target=held.keep_fresh, daemon=True)
        beats.start()
        try:
            yield held
        finally:
            held.release()
            beats.join()

    def _take(self, unit: str) -> Held | None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{unit}.json"
        mine = Claim(unit=unit, host=_host(), pid=os.getpid(), token=uuid.uuid4().hex, since=time.time())
        try:
            _make(path, mine)
            return Held(path, mine)
        except FileExistsError:
            return Held(path, mine) if self._took_over(path, mine) else None

    def _took_over(self, path: Path, mine: Claim) -> bool:
        """Put `mine` in the place of an abandoned claim; False where that one is alive, or another was quicker."""
        claim = _read(path)
        if not self._over(path, claim):
            return False
        # Of those that saw the same abandoned claim, one gets to replace it: the one that makes this file.
        turn = path.with_name(f".{path.stem}.{claim.token if claim else 'unread'}.tmp")
        try:
            _make(turn, mine)
        except FileExistsError:
            if self._over(turn, _read(turn)):
                # Whoever had the turn has died with it; the next to come finds the way free.
                turn.unlink(missing_ok=True)
            return False
        try:
            # The claim may have been replaced, and the turn given back, between the look and the turn.
            if _read(path) != claim:
                return False
            temporary = path.with_name(f".{path.name}.{mine.token}.tmp")
            _make(temporary, mine)
            temporary.replace(path)
            return True
        finally:
            turn.unlink(missing_ok=True)

    def _over(self, path: Path, claim: Claim | None) -> bool:
        """Whether a claim is nobody's; one that cannot be read was just made, and is not written yet, unless it is old."""
        return self._old(path) if claim is None else self._abandoned(path, claim)

    def _abandoned(self, path: Path, claim: Claim) -> bool:
        if claim.host == _host() and not _alive(claim.pid):
            return True
        return self._old(path)

    def _old(self, path: Path) -> bool:
        """Whether the last sign of life is older than the lease, by the clock of the file system."""
        probe = self.folder / f".now.{uuid.uuid4().hex}.tmp"
        try:
            probe.touch()
            return probe.stat().st_mtime - path.stat().st_mtime > LEASE
        except FileNotFoundError:
            return True
        finally:
            probe.unlink(missing_ok=True)


class Held:
    """A claim of this process."""

    def __init__(self, path: Path, claim: Claim) -> None:
        self.path, self.claim = path, claim
        self._ended = threading.Event()

    def tell(self, fraction: float, component: str) -> None:
        """Say how far the work is; others see it with the next sign of life."""
        self.claim = self.claim.model_copy(update={"fraction": fraction, "component": component})

    def keep_fresh(self) -> None:
        """Give a sign of life every `BEAT` seconds until the claim is released; a worker whose run has died ends, and its claim with it."""
        run = multiprocessing.parent_process()
        while not self._ended.wait(BEAT):
            if run is not None and not run.is_alive():
                os._exit(1)
            with suppress(OSError):
                if (found := _read(self.path)) is not None and found.token == self.claim.token:
                    temporary = self.path.with_name(f".{self.path.name}.{self.claim.token}.tmp")
                    temporary.write_bytes(self.claim.to_bytes())
                    temporary.replace(self.path)

    def release(self) -> None:
        """Give the claim up, unless another has taken it over."""
        self._ended.set()
        with suppress(OSError):
            if (found := _read(self.path)) is not None and found.token == self.claim.token:
                self.path.unlink()


def _make(path: Path, claim: Claim) -> None:
    """Write a new file; FileExistsError where there is one."""
    with path.open("xb") as file:
        try:
            file.write(claim.to_bytes())
            file.flush()
        except OSError:
            # A full disk: an empty claim would keep others away for a while.
            path.unlink(missing_ok=True)
            raise


def _read(path: Path) -> Claim | None:
    try:
        return Claim.read(path)
    except (OSError, DamagedFileError):
        return None


def _host() -> str:
    """A name for this machine, and in it for the set of processes among which a pid means one."""
    try:
        return f"{socket.gethostname()}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return socket.gethostname()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
