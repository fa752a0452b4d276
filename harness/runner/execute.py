"""Execution of a plan: selects the units to run, runs them with an executor, and reports the result of each."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from harness.runner import executors
from harness.runner.cost import length
from harness.runner.executors import Resources
from harness.runner.fingerprints import check_fingerprints
from harness.runner.plan import Plan, Unit
from harness.runner.results import cell
from harness.runner.store import Store
from harness.runner.work import Done
from model_zoo.errors import UsageError
from model_zoo.registry import absences

# What to do if the store already has outcomes, with the meaning of each choice.
EXISTING = {
    "only-missing": "run what the store does not hold",
    "always": "run everything anew",
    "never": "leave alone what the store has any outcome of, for the same model, attack and threat model",
    "only-cache": "run nothing",
}
# Seconds between two attempts at units that another run is working on.
WAIT = 3.0


@dataclass(frozen=True)
class Event:
    """Event during the execution of a plan.

    `kind` is "found" (the store has the unit), "progress" (with the `fraction` of the unit that is done, and the attack's component as
    `message`), "waiting" (another run is working on it), "ended" (the process that ran it before ended without finishing it; with
    `message`), "finished" or "failed" (with `message`).
    """

    kind: str
    unit: Unit
    fraction: float = 0.0
    message: str = ""


@dataclass
class Report:
    """Units by result; those in `failed` and `at_fault` come with one line of explanation, those in `left` were not run.

    `absent` has one line per model whose checkpoint does not ship; units of such a model that the store lacks are in `left`.
    """

    found: list[Unit] = field(default_factory=list)
    finished: list[Unit] = field(default_factory=list)
    failed: list[tuple[Unit, str]] = field(default_factory=list)
    at_fault: list[tuple[Unit, str]] = field(default_factory=list)
    left: list[Unit] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)


def execute(
    plan: Plan,
    store: Store,
    tell: Callable[[Event], None] = lambda event: None,
    workers: int = 1,
    *,
    executor: str | None = None,
    existing: str = "only-missing",
    cpus: float = 1.0,
    gpus: float = 0.0,
    device: str = "cpu",
) -> Report:
    """Run a plan's units. A failing model or unit does not stop the others; a full disk does.

    Each unit is stored as soon as it is done, so an interrupted run can continue. Several runs may share a store: units that another run is
    working on are waited for. Outcomes do not depend on `workers` or `executor`.

    Parameters
    ----------
    tell : callable
        Called with each event.
    workers : int
        Number of units that run in parallel.
    executor : str, optional
        A name in `executors.names()`. If None, "processes" if several workers have several units to run, "here" otherwise.
    existing : str
        A key of `EXISTING`.
    cpus, gpus : float
        Reserved per unit by an executor that places tasks.
    device : str
        "cpu" or "cuda"; outcomes are promised to be reproducible on the same device.

    Raises
    ------
    RefusedError
        If the store has outcomes of another network under the identity of one of the plan's networks.
    UsageError
        If no CUDA device is available for `device="cuda"`.
    """
    report = Report()
    missing = _missing_units(plan, store, existing, report)
    check_fingerprints(report.found, store)
    for unit in report.found:
        tell(Event("found", unit, 1.0))
    if existing == "only-cache":
        report.left, missing = missing, []
    reasons = absences(unit.model for unit in missing)
    report.absent = list(reasons.values())
    report.left += [unit for unit in missing if unit.model in reasons]
    missing = [unit for unit in missing if unit.model not in reasons]
    executor_name = executor or ("here" if workers == 1 or len(missing) < 2 else "processes")
    run = executors.get(executor_name)
    if device == "cuda" and executor_name == "ray" and not gpus:
        raise UsageError("on Ray a unit has no GPU unless it asks for a share of one: --gpus-per-unit 0.25")
    if device == "cuda" and executor_name != "ray" and not torch.cuda.is_available():
        raise UsageError("no CUDA device is available here: use --device cpu")
    resources = Resources(workers, cpus, gpus, again=existing == "always", device=device)
    if executor_name != "here":
        # A long unit at the end would leave the other workers idle.
        missing.sort(key=length, reverse=True)
    abandoned = {claim.unit for claim in store.claims.abandoned()}
    for unit in missing:
        if unit.id in abandoned:
            tell(Event("ended", unit, 0.0, f"{unit}: the process that ran it before ended (killed, out of memory, or by the model's code)"))
    while missing:
        units, busy = {unit.id: unit for unit in missing}, []
        for result in run(missing, store, lambda unit, fraction, component: tell(Event("progress", unit, fraction, component)), resources):
            unit = units.pop(result.unit)
            if result.kind == "busy":
                busy.append(unit)
                tell(Event("waiting", unit))
            else:
                _record_result(result, unit, report, tell)
            if result.fatal:
                report.left += units.values()
                return report
        missing = busy
        if busy:
            time.sleep(WAIT)
    return report


def _missing_units(plan: Plan, store: Store, existing: str, report: Report) -> list[Unit]:
    """Return the units to run; the others are put into `report.found`."""
    if existing not in EXISTING:
        raise ValueError(f"existing is one of {', '.join(EXISTING)}, not {existing!r}")
    if existing == "always":
        return list(plan.units)
    done_ids = {unit.id for unit in plan.units if store.holds(unit.id)}
    if existing == "never":
        cells = {cell(manifest.identity) for manifest in store.manifests()}
        done_ids |= {unit.id for unit in plan.units if cell(unit.identity) in cells}
    report.found = [unit for unit in plan.units if unit.id in done_ids]
    return [unit for unit in plan.units if unit.id not in done_ids]


def _record_result(result: Done, unit: Unit, report: Report, on_event: Callable[[Event], None]) -> None:
    if result.kind == "failed":
        report.failed.append((unit, result.message or ""))
        on_event(Event("failed", unit, 1.0, result.message or ""))
    elif result.kind == "found":
        report.found.append(unit)
        on_event(Event("found", unit, 1.0))
    else:
        report.finished.append(unit)
        if result.message is not None:
            report.at_fault.append((unit, result.message))
        on_event(Event("finished", unit, 1.0))
