"""The harness tested on what it is for: planted faults that must be caught, and honest models that must not be accused.

Each module but `toys` plants one kind of fault and has a tuple `CASES`; a new one is found by itself. The numbers are those of the
pitfalls in docs/pitfalls.md.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

from model_zoo.errors import UserError


@dataclass(frozen=True)
class Finding:
    """What became of a case: whether the fault was caught and by what; `naive` is what plain PGD-CE would have printed (a fraction)."""

    caught: bool
    by: str
    naive: float | None = None


@dataclass(frozen=True)
class Case:
    """One planted fault.

    Attributes
    ----------
    pitfall : int
        Its number; 0 for an honest model, on which nothing may be found.
    name : str
        What is planted, in a few words.
    kind : str
        "model", "harness" or "control".
    run : callable
        Plants it and looks what the harness says. A case that cannot exist here returns None.
    """

    pitfall: int
    name: str
    kind: str
    run: Callable[[], Finding | None]


@dataclass(frozen=True)
class Result:
    """A case and its finding; `finding` is None where the case does not apply to this machine."""

    case: Case
    finding: Finding | None

    @property
    def good(self) -> bool:
        """A fault that was caught, a control on which nothing was found, or nothing to test."""
        return self.finding is None or self.finding.caught == (self.case.kind != "control")


def cases() -> list[Case]:
    """Every case, by pitfall, controls last."""
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    found = [case for module in modules for case in getattr(module, "CASES", ())]
    return sorted(found, key=lambda case: (case.kind == "control", case.pitfall))


def run(case: Case) -> Result:
    """Plant one fault and see."""
    return Result(case, case.run())


def refused(action: Callable[[], object]) -> Finding:
    """A finding for a fault that must be refused before anything is attacked."""
    try:
        action()
    except UserError as error:
        return Finding(True, str(error))
    return Finding(False, "nothing")
