"""Tests that cells are trained and attacked once, and that an impossible cell does not stop the others."""

from __future__ import annotations

from pathlib import Path

from harness.reproduction.cells import CellStore
from harness.reproduction.running import run_cells
from harness.reproduction.scale import read_scale
from harness.runner.store import Store
from tests.harness.reproduction.test_cells import TINY, ours_settings


def test_cells_run_once_and_obstacles_are_reported(tmp_path: Path) -> None:
    cells = CellStore(Store(tmp_path), read_scale(TINY))
    settings = [
        ours_settings(architecture="rn50"),
        ours_settings(),
        ours_settings(method="at", weights="fp", strategy="none", keep_ratio=None, p=None, score_scale=None),
    ]
    kinds: list[str] = []
    report = run_cells(cells, settings, lambda event: kinds.append(f"{type(event.unit).__name__} {event.kind}"))
    assert (report.trained, report.attacked, report.failed) == (2, 2, [])
    assert [obstacle.settings.architecture for obstacle in report.obstacles] == ["rn50"]
    assert {"TrainingUnit progress", "Unit finished"} <= set(kinds)
    repeated = run_cells(cells, settings)
    assert (repeated.trained, repeated.attacked, len(repeated.obstacles)) == (0, 0, 1)
    assert all(cells.outcomes(item)[1] == 20 for item in settings[1:])
