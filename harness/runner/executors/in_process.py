"""Executor that runs one unit after the other in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from harness.runner.executors import ProgressCallback, Resources
from harness.runner.plan import Unit
from harness.runner.store import Store
from harness.runner.training_unit import TrainingUnit
from harness.runner.work import Done, run_unit


def run(units: Sequence[Unit | TrainingUnit], store: Store, on_progress: ProgressCallback, resources: Resources) -> Iterator[Done]:
    """Run the units in order."""
    for unit in units:
        on_progress(unit, 0.0, "")
        yield run_unit(unit, store, partial(on_progress, unit), resources.rerun, resources.device)
