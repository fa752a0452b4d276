"""Where units are run: one module each, with a function `run`; the one in `some_place.py` is called "some-place"."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from harness.plugins import EXECUTORS

if TYPE_CHECKING:
    from harness.runner.plan import Unit
    from harness.runner.store import Store
    from harness.runner.work import Done

# Called with a unit, the fraction of it that is done, and the component at work.
Tell = Callable[["Unit", float, str], None]
# A unit during which its worker died is tried so often in all.
ATTEMPTS = 3


@dataclass(frozen=True)
class Resources:
    """What may be used: units side by side, and for one unit the share of CPUs and GPUs (an executor that places tasks goes by these).

    `again`: run units even if they are done; `device`: "cpu" or "cuda".
    """

    workers: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    again: bool = False
    device: str = "cpu"


class Executor(Protocol):
    """The function `run` of an executor's module."""

    def __call__(self, units: Sequence[Unit], store: Store, tell: Tell, resources: Resources) -> Iterator[Done]:
        """Run every unit through `work.run_unit`, yield what became of each, and report progress with `tell`."""


def names() -> list[str]:
    """Names of all executors."""
    return EXECUTORS.names()


def get(name: str) -> Executor:
    """The executor of that name; an UnknownNameError otherwise."""
    return EXECUTORS.get(name)
