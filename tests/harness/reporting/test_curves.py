"""Tests of the figure of a training curve."""

from pathlib import Path

import pandas as pd
import pytest

from harness.reporting.curves import curve_figure, draw, read
from model_zoo.errors import DamagedFileError

HEADER = "epoch,learning_rate,train_loss,train_robust_accuracy,hold_out_clean_accuracy,hold_out_pgd_accuracy,seconds\n"
CURVE = HEADER + "1,0.1,2.25,0.15,0.3125,0.2,10\n2,0.05,2,0.25,0.375,0.25,20\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "model-p0.1.csv"
    file.write_text(CURVE)
    return file


def test_losses_and_accuracies_are_drawn(path: Path) -> None:
    loss, accuracy = curve_figure(read(path), "model").axes
    assert [list(line.get_ydata()) for line in loss.lines] == [[2.25, 2.0]]  # type: ignore[arg-type]
    curves = {str(line.get_label()): list(line.get_ydata()) for line in accuracy.lines}  # type: ignore[arg-type]
    assert curves == {
        "held-out images, clean": [31.25, 37.5],
        "held-out images, PGD": [20.0, 25.0],
        "training images, attack of the training": [15.0, 25.0],
    }
    assert all(list(line.get_xdata()) == [1, 2] for axes in (loss, accuracy) for line in axes.lines)  # type: ignore[arg-type]


def test_the_figure_file_is_reproducible(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    draw(path, folder / "model-p0.1.png")
    first = (folder / "model-p0.1.png").read_bytes()
    draw(path, folder / "model-p0.1.png")
    assert [item.name for item in folder.iterdir()] == ["model-p0.1.png"]
    assert (folder / "model-p0.1.png").read_bytes() == first and len(first) < 300 * 1024


def test_missing_measurements_are_not_drawn(path: Path) -> None:
    path.write_text(HEADER + "1,0.1,2.25,0.15,,,10\n")
    figure = curve_figure(read(path), "model")
    assert [line.get_label() for line in figure.axes[1].lines] == ["training images, attack of the training"]


def test_test_accuracies_are_drawn_if_present(path: Path) -> None:
    path.write_text(
        HEADER.strip() + ",test_clean_accuracy,test_pgd_accuracy\n1,0.1,2.25,0.15,0.3,0.2,10,nan,nan\n2,0.1,2,0.2,0.3,0.2,20,0.5,0.25\n"
    )
    curves = {str(line.get_label()): line.get_ydata() for line in curve_figure(read(path), "model").axes[1].lines}
    assert len(curves) == 5
    assert (float(curves["test images, clean"][1]), float(curves["test images, PGD"][1])) == (50.0, 25.0)  # type: ignore[index,arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [("epoch\n1\n", "no column 'train_loss'"), (HEADER, "no epoch"), ("", "No columns"), (CURVE.replace("2.25", "x"), "'x'")],
)
def test_an_invalid_curve_is_an_error(text: str, message: str, path: Path) -> None:
    path.write_text(text)
    with pytest.raises(DamagedFileError, match=message):
        read(path)
    with pytest.raises(DamagedFileError, match="absent"):
        read(path.with_name("absent.csv"))


def test_shipped_curves_can_be_drawn() -> None:
    folder = Path(__file__).parents[3] / "model_zoo" / "checkpoints"
    curves = sorted(folder.glob("*.csv"))
    assert curves and all(isinstance(read(curve), pd.DataFrame) for curve in curves)
