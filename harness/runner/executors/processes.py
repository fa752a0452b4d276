"""Processes side by side on this machine."""

from __future__ import annotations

import multiprocessing
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.queues import SimpleQueue
from pathlib import Path

from harness.runner.executors import ATTEMPTS, Resources, Tell
from harness.runner.plan import Unit
from harness.runner.store import Store
from harness.runner.work import Done, run_unit

# Seconds between two looks at what the workers report.
POLL = 0.25


def run(units: Sequence[Unit], store: Store, tell: Tell, resources: Resources) -> Iterator[Done]:
    """Run the units, longest first as they come; one whose worker dies is tried again in a new one."""
    left = {unit.id: unit for unit in units}
    deaths: Counter[str] = Counter()
    while left:
        for done in _pool(list(left.values()), store, tell, min(resources.workers, len(left)), resources.again):
            if done.kind != "died":
                del left[done.unit]
                yield done
                continue
            deaths[done.unit] += 1
            if deaths[done.unit] == ATTEMPTS:
                unit = left.pop(done.unit)
                message = f"{unit}: its worker died {ATTEMPTS} times (out of memory?)"
                store.fail(unit, message)
                yield Done(unit.id, "failed", message)


def _pool(units: list[Unit], store: Store, tell: Tell, workers: int, again: bool) -> Iterator[Done]:
    """Run units until all are done or a worker dies; then those it may have died of come as "died", and the rest not at all."""
    context = multiprocessing.get_context("spawn")
    reports: SimpleQueue[tuple[str, float, str]] = context.SimpleQueue()
    by_id = {unit.id: unit for unit in units}
    begun: set[str] = set()
    with ProcessPoolExecutor(workers, context, _begin, (reports, store.root, again)) as pool:
        waiting: dict[Future[Done], Unit] = {pool.submit(_work, unit): unit for unit in units}
        try:
            while waiting:
                finished, _ = wait(waiting, POLL, FIRST_COMPLETED)
                while not reports.empty():
                    unit_id, fraction, component = reports.get()
                    begun.add(unit_id)
                    tell(by_id[unit_id], fraction, component)
                for future in finished:
                    unit = waiting.pop(future)
                    try:
                        yield future.result()
                    except BrokenProcessPool:
                        if unit.id in begun:
                            yield Done(unit.id, "died")
        except BaseException:
            # A worker finishes the write in hand; the unit it is at is not stored and goes on next time.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


_reports: SimpleQueue[tuple[str, float, str]] | None = None
_store: Store | None = None
_again = False


def _begin(reports: SimpleQueue[tuple[str, float, str]], root: Path, again: bool) -> None:
    global _reports, _store, _again
    # Whoever presses Ctrl-C means the run, and the run ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _reports, _store, _again = reports, Store(root), again


def _work(unit: Unit) -> Done:
    assert _reports is not None and _store is not None
    reports = _reports
    reports.put((unit.id, 0.0, ""))
    told = 0.0

    def progress(fraction: float, component: str) -> None:
        nonlocal told
        if fraction - told >= 0.01:
            told = fraction
            reports.put((unit.id, fraction, component))

    return run_unit(unit, _store, progress, _again)
