"""The executor: run the units of a plan that the store does not hold yet, here or in processes side by side."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing.queues import SimpleQueue
from pathlib import Path

from harness.runner.plan import Plan, Unit
from harness.runner.store import Store
from harness.runner.work import Done, run_unit

# Seconds between two looks at what the workers report.
POLL = 0.25


@dataclass(frozen=True)
class Event:
    """What the executor tells while it works.

    `kind` is "found" (the store holds the unit), "progress" (with `fraction` of the unit done), "finished" or "failed" (with
    `message`).
    """

    kind: str
    unit: Unit
    fraction: float = 0.0
    message: str = ""


@dataclass
class Report:
    """Units by what became of them; `failed` and `at_fault` come with one line each."""

    found: list[Unit] = field(default_factory=list)
    finished: list[Unit] = field(default_factory=list)
    failed: list[tuple[Unit, str]] = field(default_factory=list)
    at_fault: list[tuple[Unit, str]] = field(default_factory=list)


def execute(plan: Plan, store: Store, tell: Callable[[Event], None] = lambda event: None, workers: int = 1) -> Report:
    """Run what is missing, in this process or in `workers` others; one failing model or unit does not stop the others.

    A unit is stored the moment it is done, so an interrupted run continues where it was. Outcomes do not depend on `workers`.
    """
    report = Report()
    missing = []
    for unit in plan.units:
        if store.holds(unit.id):
            report.found.append(unit)
            tell(Event("found", unit, 1.0))
        else:
            missing.append(unit)
    units = {unit.id: unit for unit in missing}
    run = _here(missing, store, tell) if workers == 1 or len(missing) < 2 else _beside(missing, store, tell, min(workers, len(missing)))
    for done in run:
        unit = units[done.unit]
        if done.failed is not None:
            report.failed.append((unit, done.failed))
            tell(Event("failed", unit, 1.0, done.failed))
            continue
        report.finished.append(unit)
        if done.at_fault is not None:
            report.at_fault.append((unit, done.at_fault))
        tell(Event("finished", unit, 1.0))
    return report


def _here(units: list[Unit], store: Store, tell: Callable[[Event], None]) -> Iterator[Done]:
    for unit in units:
        tell(Event("progress", unit))
        yield run_unit(unit, store, lambda fraction, component, unit=unit: tell(Event("progress", unit, fraction, component)))  # type: ignore[misc]


def _beside(units: list[Unit], store: Store, tell: Callable[[Event], None], workers: int) -> Iterator[Done]:
    context = multiprocessing.get_context("spawn")
    reports: SimpleQueue[tuple[str, float, str]] = context.SimpleQueue()
    by_id = {unit.id: unit for unit in units}
    with ProcessPoolExecutor(workers, context, _begin, (reports, store.root)) as pool:
        waiting: dict[Future[Done], Unit] = {pool.submit(_work, unit): unit for unit in units}
        try:
            while waiting:
                finished, _ = wait(waiting, POLL, FIRST_COMPLETED)
                while not reports.empty():
                    unit_id, fraction, component = reports.get()
                    tell(Event("progress", by_id[unit_id], fraction, component))
                for future in finished:
                    unit = waiting.pop(future)
                    try:
                        yield future.result()
                    except BrokenProcessPool:
                        yield Done(unit.id, failed=f"{unit}: its worker died (out of memory?)")
        except BaseException:
            # Workers end with the unit in hand unfinished; it is not stored and runs again next time.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


_reports: SimpleQueue[tuple[str, float, str]] | None = None
_store: Store | None = None


def _begin(reports: SimpleQueue[tuple[str, float, str]], root: Path) -> None:
    global _reports, _store
    _reports, _store = reports, Store(root)


def _work(unit: Unit) -> Done:
    assert _reports is not None and _store is not None
    reports = _reports
    told = 0.0

    def progress(fraction: float, component: str) -> None:
        nonlocal told
        if fraction - told >= 0.01:
            told = fraction
            reports.put((unit.id, fraction, component))

    return run_unit(unit, _store, progress)
