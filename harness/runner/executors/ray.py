"""Executor that runs units as Ray tasks, on one machine or on a cluster that shares the store's folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.runner.executors import ATTEMPTS, ProgressCallback, Resources
from harness.runner.plan import Unit
from harness.runner.store import Store
from harness.runner.training_unit import TrainingUnit
from harness.runner.work import Done, run_unit
from model_zoo.errors import UsageError

# Seconds between two readings of the claims of running tasks, which contain their progress.
POLL = 2.0


def run(units: Sequence[Unit | TrainingUnit], store: Store, on_progress: ProgressCallback, resources: Resources) -> Iterator[Done]:
    """Run every unit as a task with its share of CPUs and GPUs; Ray restarts a task whose worker has died.

    The cluster is the one that RAY_ADDRESS names; without it, a local one is started for `workers` parallel tasks.

    Raises
    ------
    UsageError
        If Ray is not installed, or the cluster can never place such a task.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise UsageError("the executor 'ray' needs Ray: pip install 'robust-binary-harness[ray]'") from None
    if ray.is_initialized():
        owns_cluster = False
    else:
        owns_cluster = True
        slots = max(1, round(resources.workers * resources.cpus))
        local = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": slots, "include_dashboard": False}
        ray.init(log_to_driver=False, logging_level="error", **local)
    try:
        available = ray.cluster_resources()
        for resource, amount in (("CPU", resources.cpus), ("GPU", resources.gpus)):
            if amount > available.get(resource, 0.0):
                raise UsageError(f"a unit needs {amount:g} {resource}, but the cluster has {available.get(resource, 0.0):g}")
        work = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=ATTEMPTS - 1)(_run_in_task)
        root = store.root.resolve()
        waiting: dict[Any, Unit | TrainingUnit] = {work.remote(unit, root, resources): unit for unit in units}
        by_id = {unit.id: unit for unit in units}
        while waiting:
            finished, _ = ray.wait(list(waiting), num_returns=1, timeout=POLL)
            for claim in store.claims.running():
                if claim.unit in by_id:
                    on_progress(by_id[claim.unit], claim.fraction, claim.component)
            for task in finished:
                unit = waiting.pop(task)
                try:
                    yield ray.get(task)
                except ray.exceptions.RayError as error:
                    message = (
                        f"{unit}: its worker died {ATTEMPTS} times ({type(error).__name__}; out of memory, or ended by the model's code?)"
                    )
                    store.fail(unit, message)
                    yield Done(unit.id, "failed", message)
    finally:
        if owns_cluster:
            ray.shutdown()


def _run_in_task(unit: Unit | TrainingUnit, root: Path, resources: Resources) -> Done:
    return run_unit(unit, Store(root), rerun=resources.rerun, device=resources.device)
