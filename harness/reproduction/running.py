"""Training of the models behind cells, and the attacks on them; finished ones are not run again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.reproduction.cells import CellStore, Obstacle
from harness.reproduction.settings import Settings
from harness.runner.execute import Event, choose_executor, execute, run_until_done
from harness.runner.executors import Resources

OnEvent = Callable[[Event[Any]], None]


@dataclass
class CellReport:
    """Numbers of trainings and attacks that were run, one line per failure, and the cells that cannot be measured on this machine."""

    trained: int = 0
    attacked: int = 0
    failed: list[str] = field(default_factory=list)
    obstacles: list[Obstacle] = field(default_factory=list)


def run_cells(
    cells: CellStore,
    settings: Sequence[Settings],
    on_event: OnEvent = lambda event: None,
    workers: int = 1,
    *,
    executor: str | None = None,
    cpus: float = 1.0,
    gpus: float = 0.0,
    device: str = "cpu",
) -> CellReport:
    """Train and attack the models of cells, each in the order of `settings`; a failure does not stop the others.

    Interrupted trainings and attacks continue.

    Parameters
    ----------
    cells : CellStore
        Where trainings and outcomes are stored, and their scale.
    on_event : callable, optional
        Called with the events of trainings (their unit is a `TrainingUnit`) and attacks.
    workers, executor, cpus, gpus, device
        As for `harness.runner.execute.execute`.

    Raises
    ------
    UsageError
        If the executor cannot use the device.
    """
    report = CellReport()
    resources = Resources(workers, cpus, gpus, device=device)
    # With one worker, each cell is finished before the next begins; several workers share all trainings, then all attacks.
    groups = [[item] for item in dict.fromkeys(settings)] if workers == 1 else [list(settings)]
    for group in groups:
        units, obstacles = cells.missing_trainings(group, device)
        report.obstacles += obstacles
        for result in run_until_done(units, cells.store, choose_executor(executor, len(units), resources), resources, on_event):
            report.trained += result.kind == "finished"
            if result.kind == "failed":
                report.failed.append(result.message or "")
            if result.fatal:
                return report
        if units:
            cells.refresh()
        attacks = execute(cells.attacks(group), cells.store, on_event, workers, executor=executor, cpus=cpus, gpus=gpus, device=device)
        report.attacked += len(attacks.finished)
        report.failed += [line for _, line in attacks.failed]
    return report
