"""The in-process executor: run the units of a plan that the store does not hold yet."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import torch

from harness.evaluation.unit import evaluate_unit
from harness.runner.plan import Plan, Unit
from harness.runner.store import Store
from model_zoo.classifier import Classifier
from model_zoo.errors import UserError
from model_zoo.loading import load_model


@dataclass(frozen=True)
class Event:
    """What the executor tells while it works.

    `kind` is "found" (the store holds the unit), "started", "progress" (with `fraction` of the unit done), "finished" or "failed"
    (with `message`).
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


def execute(plan: Plan, store: Store, tell: Callable[[Event], None] = lambda event: None) -> Report:
    """Run what is missing; one failing model or unit does not stop the others.

    A unit is stored the moment it is done, so an interrupted run continues where it was.
    """
    report = Report()
    models: dict[str, Classifier | UserError] = {}
    for unit in plan.units:
        if store.holds(unit.id):
            report.found.append(unit)
            tell(Event("found", unit, 1.0))
            continue
        tell(Event("started", unit))
        try:
            begun = time.perf_counter()
            outcome = evaluate_unit(
                _model(unit.model, models),
                unit.block,
                unit.threat,
                unit.attack,
                unit.seed,
                lambda fraction, component, unit=unit: tell(Event("progress", unit, fraction, component)),  # type: ignore[misc]
            )
            store.write(unit, outcome, {"environment": environment(), "seconds": round(time.perf_counter() - begun, 3)})
        except (UserError, RuntimeError, ValueError, MemoryError) as error:
            line = f"{unit}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
            report.failed.append((unit, line))
            tell(Event("failed", unit, 1.0, line))
            continue
        report.finished.append(unit)
        if outcome.at_fault:
            report.at_fault.append((unit, f"{unit}: {dict(outcome.flags)['at-fault']}"))
        tell(Event("finished", unit, 1.0))
    return report


def environment() -> dict[str, Any]:
    """What the outcomes were computed with; kept in the manifest, outside the identity."""
    packages = ("torch", "torchattacks", "pyautoattack", "numpy")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": "cpu",
        "threads": torch.get_num_threads(),
        **{package: metadata.version(package) for package in packages},
    }


def _model(name: str, loaded: dict[str, Classifier | UserError]) -> Classifier:
    # A model that does not load fails once; its other units repeat the reason without reading the file again.
    if name not in loaded:
        loaded.clear()
        try:
            loaded[name] = load_model(name)
        except UserError as error:
            loaded[name] = error
    model = loaded[name]
    if isinstance(model, UserError):
        raise model
    return model
