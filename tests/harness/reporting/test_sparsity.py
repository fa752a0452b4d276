"""Tests of the figure of accuracy against sparsity: it shows the numbers of the summary, and its labels do not overlap."""

from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from harness.reporting.figures.accuracy_against_sparsity import _apart, accuracy_against_sparsity, following, series
from harness.reporting.frames import summary
from harness.reporting.style import save
from tests.harness.reporting.registry import ablated, dense, pruned


@pytest.fixture
def group() -> pd.DataFrame:
    return summary(*ablated())


def numbers(data: Any) -> list[float]:
    return [float(value) for value in data]


def line_of(axes: Axes, index: int) -> tuple[list[float], list[float]]:
    """Return the points of the clean (0) or worst-case (1) line."""
    line: Any = axes.containers[index][0]
    return numbers(line.get_xdata()), numbers(line.get_ydata())


def test_a_series_differs_in_the_keep_ratio_only(group: pd.DataFrame) -> None:
    assert series(group)["model"].tolist() == ["k50", "k20", "k10", "k01"]
    assert series(group[group["model"].isin(["k20", "p0", "w28-dense"])]).empty
    assert series(group.drop(columns=["setting"])).empty
    assert series(group.assign(worst=group["worst"].where(group["model"] != "k50")))["model"].tolist() == ["k20", "k10", "k01"]


def test_the_series_with_the_lowest_seed_is_chosen_on_ties(group: pd.DataFrame) -> None:
    pair = group[group["model"].isin(["k50", "k10"])]
    combined = pd.concat([pair.assign(seed=5, model=["a", "b"]), pair])
    assert set(series(combined)["model"]) == {"k50", "k10"}


def outcomes_and_models_with_varying_p() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the outcomes and models of `ablated` with three models of a longer setting in which p follows the keep ratio."""
    outcomes, models = ablated()
    longer = [
        pruned(f"{name}-e15", keep_ratio=keep, allocation_power=power, setting="longer", epochs=15)
        for name, keep, power in (("k50", 0.5, 1.0), ("k05", 0.05, 0.8), ("k01", 0.01, 0.1))
    ]
    copies = [outcomes[outcomes["model"] == "k20"].assign(model=row["id"]) for row in longer]
    return pd.concat([outcomes, *copies], ignore_index=True), pd.concat([models.assign(epochs=5), pd.DataFrame(longer)], ignore_index=True)


def test_a_series_with_varying_p_is_drawn_as_a_second_line() -> None:
    group = summary(*outcomes_and_models_with_varying_p())
    line = series(group)
    assert following(group, line)["model"].tolist() == ["k50-e15", "k05-e15", "k01-e15"]
    assert following(summary(*ablated()), line).empty
    # Models with the same p form a series themselves, and two models are too few for a series.
    assert following(group.assign(allocation_power=0.1), line).empty
    assert following(group[group["model"] != "k05-e15"], line).empty
    axes = accuracy_against_sparsity(group, "title").axes[0]
    (drawn_line,) = [container[0] for container in axes.containers if len(container[0].get_xdata()) == 3]
    assert numbers(drawn_line.get_xdata()) == pytest.approx([50.0, 5.0, 1.0]) and numbers(drawn_line.get_ydata()) == pytest.approx(
        [37.5] * 3
    )
    assert [text.get_text() for text in axes.texts if text.get_text().startswith("p = ")] == ["p = 1", "p = 0.8", "p = 0.1"]
    labels = [text.get_text() for text in axes.figure.legends[0].get_texts()] if axes.figure.legends else []
    assert any("p follows the keep ratio (15 epochs, not 5)" in label for label in labels)


def test_lines_match_the_frame_and_seeds_are_dots(group: pd.DataFrame) -> None:
    axes = accuracy_against_sparsity(group, "title").axes[0]
    assert axes.get_xscale() == "log"
    x, worst = line_of(axes, 1)
    assert x == pytest.approx([50.0, 20.0, 10.0, 1.0]) and worst == pytest.approx([37.5, 37.5, 35.0, 10.0])
    assert line_of(axes, 0)[1] == pytest.approx([97.5] * 4)
    dots = [line for line in axes.lines if line.get_linestyle() == "None" and line.get_markersize() == 3.5]
    assert sorted(value for line in dots for value in numbers(line.get_ydata())) == pytest.approx([30.0, 40.0])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["100\n(0)", "50\n(50)", "20\n(80)", "10\n(90)", "1\n(99)"]


def test_dense_models_have_a_line_and_a_label_at_the_edge(group: pd.DataFrame) -> None:
    axes = accuracy_against_sparsity(group, "title").axes[0]
    names = [text.get_text() for text in axes.texts if text.get_text()]
    assert names == [
        "dense float32 (240k weights)",
        "small dense float32 (54k weights)",
        "dense binary (300k weights)",
        "small dense binary (54k weights)",
    ]
    across = [numbers(line.get_ydata())[0] for line in axes.lines if numbers(line.get_xdata()) == [0.0, 1.0]]
    assert across == pytest.approx([50.0, 45.0, 45.0, 37.5])


def test_dense_models_of_another_task_are_excluded() -> None:
    outcomes, models = ablated()
    other_task = pd.DataFrame(
        [dense("w28-dense", "dense", 240_000, trained_for="Linf 4/255"), dense("s29-dense", "dense", 54_000, architecture="wrn")]
    )
    models = pd.concat([models[~models["id"].isin(other_task["id"])], other_task], ignore_index=True)
    names = [text.get_text() for text in accuracy_against_sparsity(summary(outcomes, models), "title").axes[0].texts]
    assert not any("float32" in name for name in names) and "dense binary (300k weights)" in names


def test_labels_at_the_edge_do_not_overlap_and_are_inside_the_figure(group: pd.DataFrame, tmp_path: Path) -> None:
    figure = accuracy_against_sparsity(group, "title")
    (path,) = save(figure, tmp_path / "figure", ("png",))
    assert path.stat().st_size < 300 * 1024
    # The width of text depends slightly on the resolution, so use that of the file.
    figure.set_dpi(160)
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    # Text.get_window_extent excludes the leader lines of the labels, which may cross.
    boxes = [Text.get_window_extent(text, renderer) for text in figure.axes[0].texts if text.get_text()]
    assert len(boxes) == 4 and not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    assert all(box.x1 <= figure.bbox.x1 and box.y0 >= 0 for box in boxes)


def test_partial_and_near_constant_models_are_labelled() -> None:
    outcomes, models = ablated()
    cut = outcomes[~outcomes["model"].isin(["k01", "w28-dense"]) | (outcomes["image"] < 32)]
    frame = summary(cut, models.assign(near_constant=models["id"] == "k01"))
    texts = [text.get_text() for text in accuracy_against_sparsity(frame, "title").axes[0].texts]
    assert "partial 32/40, near-constant" in texts and "dense float32 (240k weights)\n(partial 32/40)" in texts


def test_the_figure_is_reproducible(group: pd.DataFrame, tmp_path: Path) -> None:
    first, second = (
        save(accuracy_against_sparsity(group.sample(frac=1.0, random_state=seed), "title"), tmp_path / str(seed)) for seed in (1, 2)
    )
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_overlapping_labels_are_spread_around_their_centre() -> None:
    assert _apart([100.0, 50.0], [10.0, 10.0]) == [100.0, 50.0]
    assert _apart([51.0, 50.0, 49.0], [10.0, 10.0, 10.0]) == pytest.approx([60.0, 50.0, 40.0])
    assert _apart([60.0, 50.0, 49.0], [10.0, 10.0, 20.0]) == pytest.approx([64 + 2 / 3, 54 + 2 / 3, 39 + 2 / 3])
    assert _apart([], []) == []
