"""Execution of a plan: selects the units to run, runs them with an executor, and reports the result of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

import torch

from harness.runner import executors
from harness.runner.cost import length
from harness.runner.executors import Resources
from harness.runner.fingerprints import check_fingerprints
from harness.runner.leftovers import sweep
from harness.runner.plan import Plan, Unit
from harness.runner.results import cell
from harness.runner.store import Store
from harness.runner.training_unit import TrainingUnit
from harness.runner.work import Done
from model_zoo.errors import UsageError
from model_zoo.registry import absences

# What to do if the store already has outcomes, with the meaning of each choice.
EXISTING = {
    "only-missing": "run the units that the store lacks",
    "always": "run all units again",
    "never": "run no unit whose model, attack and threat model have any stored outcome",
    "only-cache": "run nothing",
}
# Seconds between two attempts at units that another run is working on.
WAIT = 3.0
AnyUnit = TypeVar("AnyUnit", Unit, TrainingUnit)


@dataclass(frozen=True)
class Event(Generic[AnyUnit]):
    """Event during the execution of a plan.

    `kind` is "stored" (the store has the unit), "progress" (with the `fraction` of the unit that is done, and the attack's component as
    `message`), "waiting" (another run is working on it), "ended" (the process that ran it before ended without finishing it; with
    `message`), "finished" or "failed" (with `message`).
    """

    kind: str
    unit: AnyUnit
    fraction: float = 0.0
    message: str = ""


@dataclass
class Report:
    """Units by result; those in `failed` and `at_fault` come with one line of explanation, those in `not_run` were not run.

    `absent` has one line per model whose checkpoint does not ship; units of such a model that the store lacks are in `not_run`.
    """

    stored: list[Unit] = field(default_factory=list)
    finished: list[Unit] = field(default_factory=list)
    failed: list[tuple[Unit, str]] = field(default_factory=list)
    at_fault: list[tuple[Unit, str]] = field(default_factory=list)
    not_run: list[Unit] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)


def execute(
    plan: Plan,
    store: Store,
    on_event: Callable[[Event[Unit]], None] = lambda event: None,
    workers: int = 1,
    *,
    executor: str | None = None,
    existing: str = "only-missing",
    cpus: float = 1.0,
    gpus: float = 0.0,
    device: str = "cpu",
    wait: float = WAIT,
) -> Report:
    """Run a plan's units. A failing model or unit does not stop the others; a full disk does.

    Each unit is stored as soon as it is done, so an interrupted run can continue. Several runs may share a store: units that another run is
    working on are waited for. Outcomes do not depend on `workers` or `executor`.

    Parameters
    ----------
    on_event : callable
        Called with each event.
    workers : int
        Number of units that run in parallel.
    executor : str, optional
        A name in `executors.names()`. If None, "processes" if several workers have several units to run, "in-process" otherwise.
    existing : str
        A key of `EXISTING`.
    cpus, gpus : float
        Reserved per unit by an executor that places tasks.
    device : str
        "cpu" or "cuda"; outcomes are promised to be reproducible on the same device.
    wait : float
        Seconds between two attempts at units that another run is working on.

    Raises
    ------
    RefusedError
        If the store has outcomes of another network under the identity of one of the plan's networks.
    UsageError
        If no CUDA device is available for `device="cuda"`.
    """
    report = Report()
    missing = _missing_units(plan, store, existing, report)
    check_fingerprints(report.stored, store)
    for unit in report.stored:
        on_event(Event("stored", unit, 1.0))
    if existing == "only-cache":
        report.not_run, missing = missing, []
    reasons = absences(unit.model for unit in missing)
    report.absent = list(reasons.values())
    report.not_run += [unit for unit in missing if unit.model in reasons]
    missing = [unit for unit in missing if unit.model not in reasons]
    resources = Resources(workers, cpus, gpus, rerun=existing == "always", device=device)
    executor = choose_executor(executor, len(missing), resources)
    if executor != "in-process":
        # A long unit at the end would leave the other workers idle.
        missing.sort(key=length, reverse=True)
    waiting = {unit.id: unit for unit in missing}
    for result in run_until_done(missing, store, executor, resources, on_event, wait):
        _record_result(result, waiting.pop(result.unit), report, on_event)
        if result.fatal:
            report.not_run += waiting.values()
            break
    return report


def choose_executor(name: str | None, units: int, resources: Resources) -> str:
    """Return the executor to use for a number of units: `name`, if it is not None.

    Raises
    ------
    UsageError
        If the executor cannot use the device.
    """
    name = executors.FORMER_NAMES.get(name, name) if name else ("in-process" if resources.workers == 1 or units < 2 else "processes")
    if resources.device == "cuda" and name == "ray" and not resources.gpus:
        raise UsageError("Ray gives a unit no GPU by default: reserve a share of one, such as --gpus-per-unit 0.25")
    if resources.device == "cuda" and name != "ray" and not torch.cuda.is_available():
        raise UsageError("no CUDA device is available: use --device cpu")
    return name


def run_until_done(
    units: Sequence[AnyUnit],
    store: Store,
    executor: str,
    resources: Resources,
    on_event: Callable[[Event[AnyUnit]], None],
    wait: float = WAIT,
) -> Iterator[Done]:
    """Run units and yield one result for each; units that another run is working on are tried again every `wait` seconds."""
    run = executors.get(executor)
    abandoned = {claim.unit for claim in store.claims.abandoned()}
    for unit in units:
        if unit.id in abandoned:
            message = f"{unit}: the process that ran it before ended (killed, out of memory, or by the model's code)"
            on_event(Event("ended", unit, 0.0, message))
    sweep(store)
    missing = list(units)

    def on_progress(unit: Unit | TrainingUnit, fraction: float, part: str) -> None:
        on_event(Event("progress", cast(AnyUnit, unit), fraction, part))

    while missing:
        by_id: dict[str, AnyUnit] = {unit.id: unit for unit in missing}
        busy = []
        for result in run(missing, store, on_progress, resources):
            if result.kind == "busy":
                busy.append(by_id[result.unit])
                on_event(Event("waiting", by_id[result.unit]))
            else:
                yield result
        missing = busy
        if busy:
            time.sleep(wait)


def _missing_units(plan: Plan, store: Store, existing: str, report: Report) -> list[Unit]:
    """Return the units to run; the others are put into `report.stored`."""
    if existing not in EXISTING:
        raise ValueError(f"existing must be one of {', '.join(EXISTING)}, not {existing!r}")
    if existing == "always":
        return list(plan.units)
    done_ids = {unit.id for unit in plan.units if store.holds(unit.id)}
    if existing == "never":
        cells = {cell(manifest.identity) for manifest in store.manifests()}
        done_ids |= {unit.id for unit in plan.units if cell(unit.identity) in cells}
    report.stored = [unit for unit in plan.units if unit.id in done_ids]
    return [unit for unit in plan.units if unit.id not in done_ids]


def _record_result(result: Done, unit: Unit, report: Report, on_event: Callable[[Event[Unit]], None]) -> None:
    if result.kind == "failed":
        report.failed.append((unit, result.message or ""))
        on_event(Event("failed", unit, 1.0, result.message or ""))
    elif result.kind == "stored":
        report.stored.append(unit)
        on_event(Event("stored", unit, 1.0))
    else:
        report.finished.append(unit)
        if result.message is not None:
            report.at_fault.append((unit, result.message))
        on_event(Event("finished", unit, 1.0))
