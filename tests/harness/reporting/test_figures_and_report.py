"""Figures show the frame's numbers; a report is the same bytes every time."""

from pathlib import Path

import pandas as pd
import pytest

from harness.reporting.figures import accuracy_against_bytes, accuracy_by_attack, epsilon_curve, pareto_front
from harness.reporting.frames import summary
from harness.reporting.report import build
from tests.harness.reporting.conftest import rows


def test_the_pareto_front_keeps_what_nothing_smaller_beats() -> None:
    assert pareto_front([10, 20, 30, 40], [0.2, 0.1, 0.3, 0.3]) == [0, 2]
    assert pareto_front([10, 10, 5], [0.2, 0.4, 0.1]) == [2, 1]
    assert pareto_front([], []) == []


def test_points_of_the_bytes_figure_are_the_frames(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    figure = accuracy_against_bytes(summary(outcomes, models), "title")
    axes = figure.axes[0]
    points = {(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in axes.lines if len(line.get_xdata()) == 1}  # type: ignore[arg-type,index]
    assert {(2048.0, 37.5), (2048.0, 87.5), (102400.0, 62.5), (102400.0, 87.5)} <= points
    assert axes.get_xscale() == "log"
    assert {text.get_text() for text in axes.texts} >= {"small_one", "large", "title"}


def test_the_attack_figure_has_a_mark_for_every_attack(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    axes = accuracy_by_attack(summary(outcomes, models), "title").axes[0]
    lines = {line.get_label(): list(line.get_xdata()) for line in axes.lines}  # type: ignore[arg-type]
    assert lines["pgd"] == [50.0, 75.0] and lines["worst case"] == [37.5, 62.5] and lines["clean"] == [87.5, 87.5]


def test_the_curve_starts_at_clean_accuracy_and_is_in_order_of_radius(models: pd.DataFrame) -> None:
    marks = {"16/255": "1000", "2/255": "1110", "8/255": "1100"}
    frame = pd.DataFrame([row for radius, robust in marks.items() for row in rows("large", "pgd", robust, radius, clean_wrong=0)])
    (line,) = [line for line in epsilon_curve(summary(frame, models), "title").axes[0].lines if len(line.get_xdata()) > 1]  # type: ignore[arg-type]
    assert list(line.get_xdata()) == [0.0, 2.0, 8.0, 16.0]  # type: ignore[arg-type]
    assert list(line.get_ydata()) == [100.0, 75.0, 50.0, 25.0]  # type: ignore[arg-type]


def test_a_report_is_whole_small_and_the_same_every_time(outcomes: pd.DataFrame, models: pd.DataFrame, tmp_path: Path) -> None:
    first = build(outcomes, models, tmp_path / "a")
    second = build(outcomes.sample(frac=1.0, random_state=1), models, tmp_path / "b")
    assert [path.name for path in first] == [path.name for path in second]
    assert {path.suffix for path in first} == {".md", ".tex", ".csv", ".png", ".svg"}
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
        assert one.stat().st_size < 300 * 1024
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(path.name for path in first)


def test_many_radii_make_a_curve(models: pd.DataFrame, tmp_path: Path) -> None:
    frame = pd.DataFrame([row for radius in ("2/255", "4/255", "8/255") for row in rows("large", "pgd", "1100", radius)])
    names = [path.name for path in build(frame, models, tmp_path)]
    assert "accuracy-radius_cifar10-sample_linf.png" in names and not any("bytes" in name for name in names)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_files_carry_no_date(suffix: str, outcomes: pd.DataFrame, models: pd.DataFrame, tmp_path: Path) -> None:
    path = next(path for path in build(outcomes, models, tmp_path) if path.suffix == f".{suffix}")
    assert b"dc:date" not in path.read_bytes() and b"Creation Time" not in path.read_bytes()
