"""Executors, which run units: one module each with a function `run`; the executor in `some_place.py` is called "some-place"."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from harness.plugins import EXECUTORS

if TYPE_CHECKING:
    from harness.runner.plan import Unit
    from harness.runner.store import Store
    from harness.runner.training_unit import TrainingUnit
    from harness.runner.work import Done

# Called with a unit, the fraction of it that is done, and the attack's current component.
ProgressCallback = Callable[["Unit | TrainingUnit", float, str], None]
# Number of attempts at a unit whose worker dies.
ATTEMPTS = 3
# Former names, which work until the next version.
FORMER_NAMES = {"here": "in-process"}


@dataclass(frozen=True)
class Resources:
    """Number of parallel `workers`, and the `cpus` and `gpus` that an executor which places tasks reserves per unit.

    `rerun`: run units even if they are done; `device`: "cpu" or "cuda".
    """

    workers: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    rerun: bool = False
    device: str = "cpu"


class Executor(Protocol):
    """Type of the function `run` of an executor's module."""

    def __call__(
        self, units: Sequence[Unit | TrainingUnit], store: Store, on_progress: ProgressCallback, resources: Resources
    ) -> Iterator[Done]:
        """Run every unit through `work.run_unit`, yield the result of each, and report progress with `on_progress`."""


def names() -> list[str]:
    """Return the names of all executors, sorted."""
    return EXECUTORS.names()


def get(name: str) -> Executor:
    """Return the executor called `name`; raises an UnknownNameError if there is none."""
    return EXECUTORS.get(name)
