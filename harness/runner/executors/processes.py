"""Executor that runs units in parallel processes on this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from harness.runner.executors import ATTEMPTS, ProgressCallback, Resources
from harness.runner.plan import Unit
from harness.runner.signals import ignored
from harness.runner.store import Store
from harness.runner.training_unit import TrainingUnit
from harness.runner.work import Done, run_unit


@dataclass
class _Worker:
    """A process, the pipe to it, and its current unit."""

    process: BaseProcess
    pipe: Connection
    unit: Unit | TrainingUnit


def run(units: Sequence[Unit | TrainingUnit], store: Store, on_progress: ProgressCallback, resources: Resources) -> Iterator[Done]:
    """Run the units in order, each in the next free worker; a unit whose worker dies is tried again in a new worker."""
    queue, deaths = deque(units), Counter[str]()
    workers: list[_Worker] = []
    try:
        while queue or workers:
            while queue and len(workers) < resources.workers:
                workers.append(_start(queue.popleft(), store, resources))
            ready = wait([worker.pipe for worker in workers])
            for worker in [worker for worker in workers if worker.pipe in ready]:
                try:
                    message = worker.pipe.recv()
                except (EOFError, OSError):
                    workers.remove(worker)
                    worker.process.join()
                    yield from _handle_death(worker.unit, deaths, queue, store)
                    continue
                if not isinstance(message, Done):
                    on_progress(worker.unit, *message)
                    continue
                yield message
                if queue:
                    worker.unit = queue.popleft()
                    worker.pipe.send(worker.unit)
                else:
                    workers.remove(worker)
                    worker.pipe.close()
                    worker.process.join()
    finally:
        # A worker finishes the write that it has begun; its unit is not stored and continues in the next run.
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()


def _start(unit: Unit | TrainingUnit, store: Store, resources: Resources) -> _Worker:
    context = multiprocessing.get_context("spawn")
    parent_end, worker_end = context.Pipe()
    process = context.Process(target=_serve, args=(worker_end, store.root, resources, run_unit), daemon=True)
    with ignored(signal.SIGINT):
        # The worker inherits this from its start, because Ctrl-C is meant for the run, which ends its workers.
        process.start()
    # From now on only the worker holds that end, so its death closes the pipe.
    worker_end.close()
    parent_end.send(unit)
    return _Worker(process, parent_end, unit)


def _handle_death(unit: Unit | TrainingUnit, deaths: Counter[str], queue: deque[Unit | TrainingUnit], store: Store) -> Iterator[Done]:
    deaths[unit.id] += 1
    if deaths[unit.id] < ATTEMPTS:
        queue.append(unit)
        return
    message = f"{unit}: its worker died {ATTEMPTS} times (out of memory, or ended by the model's code?)"
    store.fail(unit, message)
    yield Done(unit.id, "failed", message)


def _end_with_parent() -> None:
    """Wait until the process that started this worker has ended, and end this one at once."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _serve(pipe: Connection, root: Path, resources: Resources, work: Callable[..., Done]) -> None:
    """Run the units that arrive in a worker until the pipe is closed; end with the run, however it ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    store = Store(root)
    while True:
        try:
            unit = pipe.recv()
        except (EOFError, OSError):
            return
        reported = 0.0

        def progress(fraction: float, component: str) -> None:
            nonlocal reported
            if fraction - reported >= 0.01:
                reported = fraction
                pipe.send((fraction, component))

        pipe.send((0.0, ""))
        pipe.send(work(unit, store, progress, resources.rerun, resources.device))
