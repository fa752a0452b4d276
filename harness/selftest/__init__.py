"""Self-test of the harness: planted faults that must be caught, and honest models that must not be accused.

Modules that plant faults, one kind each, list their cases in a tuple `CASES`; new modules are discovered automatically. Pitfall numbers are
those of docs/pitfalls.md.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

from model_zoo.errors import UserError


@dataclass(frozen=True)
class Finding:
    """Outcome of a case: whether a fault was found, and by what.

    `naive` is the robust accuracy, a fraction, that plain PGD-CE would have printed.
    """

    caught: bool
    by: str
    naive: float | None = None


@dataclass(frozen=True)
class Case:
    """One planted fault.

    Attributes
    ----------
    pitfall : int
        Number of the pitfall; 0 for an honest model, on which nothing may be found.
    name : str
        What is planted, in a few words.
    kind : str
        "model", "harness" or "control".
    run : callable
        Plants the fault and returns the harness's finding, or None if the case cannot exist on this machine.
    """

    pitfall: int
    name: str
    kind: str
    run: Callable[[], Finding | None]


@dataclass(frozen=True)
class Result:
    """A case and its finding; `finding` is None if the case does not apply to this machine."""

    case: Case
    finding: Finding | None

    @property
    def passed(self) -> bool:
        """Whether a fault was caught, nothing was found on a control, or the case does not apply."""
        return self.finding is None or self.finding.caught == (self.case.kind != "control")


def cases() -> list[Case]:
    """Return every case, by pitfall, controls last."""
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    collected = [case for module in modules for case in getattr(module, "CASES", ())]
    return sorted(collected, key=lambda case: (case.kind == "control", case.pitfall))


def run(case: Case) -> Result:
    """Run one case and return its result."""
    return Result(case, case.run())


def refused(action: Callable[[], object]) -> Finding:
    """Return the finding for a fault that must be refused, with a UserError, before anything is attacked."""
    try:
        action()
    except UserError as error:
        return Finding(True, str(error))
    return Finding(False, "nothing")
