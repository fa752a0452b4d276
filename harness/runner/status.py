"""Progress of a plan, read from the store alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.runner.cost import Rates
from harness.runner.plan import Plan
from harness.runner.store import Store
from model_zoo.registry import absences


@dataclass(frozen=True)
class Status:
    """Units of a plan by their state.

    Attributes
    ----------
    units, done, left : int
        Number of all units, of those that the store has, and of the others, including the running and failed ones. Units of models whose
        checkpoint does not ship count only if the store has them.
    running : list of dict
        The fields of `documents.Claim`, and the unit in words as `what`.
    failed : dict
        Message of each unit that could not be finished, by unit.
    seconds : float or None
        Time until all are done, at the rates of finished units and with as many workers as there are claims; None if the rate of a unit
        is not known.
    """

    units: int
    done: int
    left: int
    running: list[dict[str, Any]]
    failed: dict[str, str]
    seconds: float | None


def status(plan: Plan, store: Store) -> Status:
    """Return the state of a plan's units in a store."""
    held = {unit.id for unit in plan.units if store.holds(unit.id)}
    absent = absences(unit.model for unit in plan.units)
    left = {unit.id: unit for unit in plan.units if unit.id not in held and unit.model not in absent}
    claims = [claim for claim in store.claims.running() if claim.unit in left]
    rates = Rates(store.manifests())
    begun = {claim.unit: claim.fraction for claim in claims}
    seconds, known = 0.0, True
    for unit in left.values():
        needed = rates.seconds(unit, any_model=True)
        known &= needed is not None
        seconds += (needed or 0.0) * (1 - begun.get(unit.id, 0.0))
    failed = {unit: message for unit, message in store.failures().items() if unit in left}
    running = [{**claim.model_dump(), "what": str(left[claim.unit])} for claim in claims]
    return Status(len(held) + len(left), len(held), len(left), running, failed, seconds / max(1, len(claims)) if known else None)
