"""Executor that runs one unit after the other in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from harness.runner.executors import Resources, Tell
from harness.runner.plan import Unit
from harness.runner.store import Store
from harness.runner.training_unit import TrainingUnit
from harness.runner.work import Done, run_unit


def run(units: Sequence[Unit | TrainingUnit], store: Store, tell: Tell, resources: Resources) -> Iterator[Done]:
    """Run the units in order."""
    for unit in units:
        tell(unit, 0.0, "")
        yield run_unit(unit, store, partial(tell, unit), resources.again, resources.device)
