"""Tests of the paper's figures: each is drawn from an available model and names it."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from harness.reproduction import figures
from harness.reproduction.cells import CellStore
from harness.reproduction.scale import read_scale
from harness.runner.store import Store
from harness.runner.trainings import TrainingDocument
from model_zoo.errors import MissingDataError
from model_zoo.registry import get_record
from model_zoo.training.curve import EpochRecord, curve_csv
from tests.harness.reproduction.test_cells import TINY, ours_settings

CURVE = curve_csv([EpochRecord(1, 0.1, 2.0, 0.1, 0.5, 0.2, 1.0, 0.5, 0.3), EpochRecord(2, 0.1, 1.9, 0.2, 0.5, 0.3, 2.0, 0.5, 0.4)])


@pytest.fixture
def cells(tmp_path: Path) -> CellStore:
    return CellStore(Store(tmp_path), read_scale(TINY))


def text_of(figure: Figure) -> str:
    return " ".join(text.get_text().replace("\n", " ") for text in figure.texts)


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_mask_figures_use_a_small_model_and_name_it(number: int, cells: CellStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "PAPER_SIZE", ())
    figure = figures.FIGURES[f"liu2022-figure-{number}"](cells)
    assert f"{figures.SMALL}, a small network" in text_of(figure)


def test_empty_channels_are_counted(cells: CellStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "PAPER_SIZE", ())
    first, second = figures._pair(cells)[1]
    empty = int((first.mask.sum((1, 2, 3)) == 0).sum())
    assert f"{empty} of {first.mask.shape[0]} channels" in text_of(figures.figure_3(cells))
    assert f"{int((second.mask.sum((0, 2, 3)) == 0).sum())} of {second.mask.shape[1]} input channels" in text_of(figures.figure_5(cells))


def test_curves_count_the_available_runs(cells: CellStore) -> None:
    with pytest.raises(MissingDataError, match="harness reproduce table-1"):
        figures.figure_4(cells)
    settings = figures.PRUNED.model_copy(update={"p": 0.5})
    (unit,), _ = cells.missing_trainings([settings])
    record = {**get_record("cifar10-rn8s29-dense").model_dump(mode="json", exclude_none=True), "id": unit.recipe.id}
    cells.store.trainings.write(
        TrainingDocument(training=unit.id, identity=unit.identity, recipe=unit.recipe.id, record=record, curve=CURVE, seconds=1.0)
    )
    cells.refresh()
    figure = figures.figure_4(cells)
    assert "1 of 8 runs" in text_of(figure)
    (line, *_) = figure.axes[0].lines
    assert line.get_ydata().tolist() == pytest.approx([10, 20])
    assert len(figure.axes[0].lines) == 3
    assert not figure.axes[1].lines
    assert cells.training(ours_settings()) is None
