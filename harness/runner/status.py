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
    units, done, remaining : int
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
    remaining: int
    running: list[dict[str, Any]]
    failed: dict[str, str]
    seconds: float | None


def status(plan: Plan, store: Store) -> Status:
    """Return the state of a plan's units in a store."""
    done_ids = {unit.id for unit in plan.units if store.holds(unit.id)}
    absent = absences(unit.model for unit in plan.units)
    missing = {unit.id: unit for unit in plan.units if unit.id not in done_ids and unit.model not in absent}
    claims = [claim for claim in store.claims.running() if claim.unit in missing]
    rates = Rates(store.manifests())
    fractions = {claim.unit: claim.fraction for claim in claims}
    seconds, are_rates_known = 0.0, True
    for unit in missing.values():
        unit_seconds = rates.seconds(unit, any_model=True)
        are_rates_known &= unit_seconds is not None
        seconds += (unit_seconds or 0.0) * (1 - fractions.get(unit.id, 0.0))
    failed = {unit: message for unit, message in store.failures().items() if unit in missing}
    running = [{**claim.model_dump(), "what": str(missing[claim.unit])} for claim in claims]
    return Status(
        len(done_ids) + len(missing),
        len(done_ids),
        len(missing),
        running,
        failed,
        seconds / max(1, len(claims)) if are_rates_known else None,
    )
