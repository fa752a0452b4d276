"""Removal of what killed processes leave in a store: temporary files, and claims on units."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from model_zoo.files import clock

if TYPE_CHECKING:
    from harness.runner.store import Store

# Seconds after which a temporary file belongs to no process, and a claim of another machine to a process that has ended.
OLD = 24 * 3600.0
FOLDERS = ("units", "claims", "partial", "failed", "diagnostics", "trainings", "trainings/*")


def sweep(store: Store) -> list[Path]:
    """Remove temporary files that are older than `OLD`, and claims of dead processes; return the paths of the files.

    The age is by the clock of the file system. A claim is removed if its process is known to have ended (same machine and PID namespace),
    or if it had no heartbeat for `OLD`. What cannot be removed stays; a store without any leftover is not written to.
    """
    store.claims.release_dead(OLD)
    candidates = [path for folder in FOLDERS for path in store.root.glob(f"{folder}/.*.tmp")]
    removed = []
    for path in _older(candidates, OLD):
        with suppress(OSError):
            path.unlink()
            removed.append(path)
    return removed


def _older(paths: list[Path], seconds: float) -> Iterator[Path]:
    """Yield the paths whose modification is more than `seconds` from now, by the clock of their file system."""
    for path in paths:
        with suppress(OSError):
            if abs(clock(path.parent) - path.stat().st_mtime) > seconds:
                yield path
