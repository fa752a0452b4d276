"""Tests that figures show the numbers of the summary and that reports are reproducible."""

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

from harness.reporting.figures.accuracy_against_bytes import accuracy_against_bytes
from harness.reporting.figures.accuracy_against_radius import epsilon_curve
from harness.reporting.figures.accuracy_by_attack import accuracy_by_attack
from harness.reporting.frames import summary
from harness.reporting.index import Section, index
from harness.reporting.labels import _crossings
from harness.reporting.names import short
from harness.reporting.pareto import pareto_front
from harness.reporting.report import FORMATS, build
from harness.reporting.style import FAMILIES, save
from tests.harness.reporting.conftest import rows
from tests.harness.reporting.registry import ablated


def xs(line: Any) -> list[float]:
    return [float(value) for value in line.get_xdata()]


def ys(line: Any) -> list[float]:
    return [float(value) for value in line.get_ydata()]


def test_pareto_front_excludes_dominated_models() -> None:
    assert pareto_front([10, 20, 30, 40], [0.2, 0.1, 0.3, 0.3]) == [0, 2]
    assert pareto_front([10, 10, 5], [0.2, 0.4, 0.1]) == [2, 1]
    assert pareto_front([], []) == []


def test_points_of_the_bytes_figure_match_the_frame(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    figure = accuracy_against_bytes(summary(outcomes, models), "title")
    axes = figure.axes[0]
    points = {(xs(line)[0], ys(line)[0]) for line in axes.lines if len(xs(line)) == 1}
    assert {(2048.0, 37.5), (102400.0, 62.5)} <= points
    assert axes.get_xscale() == "log"
    assert {text.get_text() for text in axes.texts} >= {"small_one", "large"}
    assert "title" in {text.get_text() for text in figure.texts}
    paths: list[Any] = [path for bar in axes.collections for path in bar.get_paths()]
    intervals = {tuple(float(value) for value in path.vertices[:, 1]) for path in paths}
    assert any(low == pytest.approx(13.68, abs=0.01) and high == pytest.approx(69.43, abs=0.01) for low, high in intervals)


def similar_models(models: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return outcomes and models of similar size and accuracy, whose labels would overlap in their default places."""
    ids = [f"cifar10-a-rather-long-name-{number}" for number in range(models)]
    outcomes = [row for index, name in enumerate(ids) for row in rows(name, "pgd", "1" * (6 + index // 3) + "0" * (34 - index // 3))]
    records = [{"id": name, "family": "dense", "weight_bits": 32, "bytes": 20_000 + 6_000 * index} for index, name in enumerate(ids)]
    return pd.DataFrame(outcomes), pd.DataFrame(records)


def test_labels_overlap_neither_each_other_nor_marks(tmp_path: Path) -> None:
    figure = accuracy_against_bytes(summary(*similar_models(6)), "title")
    save(figure, tmp_path / "crowded")
    axes, renderer = figure.axes[0], FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    boxes = [text.get_window_extent(renderer) for text in axes.texts if text.get_text()]
    assert len(boxes) == 6
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    marks = [axes.transData.transform((xs(line)[0], ys(line)[0])) for line in axes.lines if len(xs(line)) == 1]
    assert len(marks) == 6 * 3, "worst case, and both ends of the interval"
    assert not [mark for mark in marks for box in boxes if box.contains(*mark)]


def test_with_many_models_only_the_front_and_the_best_of_each_family_are_labelled() -> None:
    group = summary(*registry_of(30))
    figure = accuracy_against_bytes(group[group["radius"] == "8/255"], "subtitle")
    axes = figure.axes[0]
    rows = group[group["radius"] == "8/255"].sort_values(["bytes", "model"]).reset_index(drop=True)
    front = [rows["model"][position] for position in pareto_front(rows["bytes"].tolist(), rows["worst"].tolist())]
    best = rows.sort_values(["worst", "bytes"], ascending=[False, True]).drop_duplicates("family")["model"].tolist()
    names = {text.get_text() for text in axes.texts if text.get_text()}
    assert names == {short(model, rows["model"]) for model in {*front, *best}}
    small = [line for line in axes.lines if line.get_markersize() == 4]
    assert len(small) == 30 - len(names)
    top = rows.sort_values(["worst", "bytes"], ascending=[False, True]).iloc[0]
    title = figure.get_suptitle()
    assert short(top["model"], rows["model"]) in title and f"{100 * top['worst']:.1f} %" in title


def test_labels_of_many_models_do_not_overlap(tmp_path: Path) -> None:
    outcomes, models = ablated()
    group = summary(outcomes, models.assign(near_constant=models["id"] == "k01"))
    for figure in (accuracy_against_bytes(group, "title"), accuracy_by_attack(group, "title")):
        (path,) = save(figure, tmp_path / "figure", ("png",))
        assert path.stat().st_size < 300 * 1024
        figure.set_dpi(160)
        figure.draw_without_rendering()
        axes, renderer = figure.axes[0], FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
        texts = [text for text in (axes.texts or axes.get_yticklabels()) if text.get_text()]
        boxes = [text.get_window_extent(renderer) for text in texts]
        assert len(boxes) >= 5 and not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
        assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)


def registry_of(count: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return outcomes and records of `count` models of all families, some with equal size or accuracy."""
    families = ["pruned-binary", "sparse", "dense-binary", "sparse-binary", "dense", "quantised"]
    sizes = {
        "pruned-binary": 9_000,
        "sparse": 140_000,
        "dense-binary": 12_000,
        "sparse-binary": 24_000,
        "dense": 220_000,
        "quantised": 240_000,
    }
    outcomes, models = [], []
    for number in range(count):
        family = families[number % 6]
        name = f"cifar10-rn8w32-{family}-k{number:02d}-p01"
        size = round(sizes[family] * (1 + 0.15 * (number // 6) + 0.01 * number))
        models.append({"id": name, "family": family, "weight_bits": 1, "bytes": size})
        n_robust = 8 + number * 7 % 10
        for radius in ("2/255", "8/255", "16/255"):
            outcomes += rows(name, "pgd", "1" * n_robust + "0" * (40 - n_robust), radius, clean_wrong=9 + number * 3 % 14)
    for number, model in enumerate(models):
        n_robust = 4 + number * 5 % 11
        outcomes += rows(model["id"], "autoattack", "1" * n_robust + "0" * (40 - n_robust), clean_wrong=9 + number * 3 % 14)
    return pd.DataFrame(outcomes), pd.DataFrame(models)


def test_figures_of_33_models_are_legible(tmp_path: Path) -> None:
    group = summary(*registry_of(33))
    main = group[group["radius"] == "8/255"].dropna(axis="columns", how="all")
    for name, figure in {
        "bytes": accuracy_against_bytes(main, "title"),
        "attacks": accuracy_by_attack(main, "title"),
        "radius": epsilon_curve(group, "title"),
    }.items():
        (path,) = save(figure, tmp_path / name, ("png",))
        assert path.stat().st_size < 300 * 1024
        figure.draw_without_rendering()
        axes, renderer = figure.axes[0], FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
        legend = figure.legends[0] if figure.legends else axes.get_legend()
        assert legend is not None
        names = [] if name == "bytes" else axes.get_yticklabels()
        texts = [text for text in (*axes.texts, *names, *legend.get_texts()) if text.get_text()]
        boxes = [text.get_window_extent(renderer) for text in texts]
        assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])], name
        assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes), name


def test_with_many_curves_only_the_best_of_each_family_is_in_the_legend() -> None:
    figure = epsilon_curve(summary(*registry_of(33)), "title")
    legend = figure.axes[0].get_legend()
    assert legend is not None
    names = [text.get_text() for text in legend.get_texts()]
    assert len(names) == 7 and names[-1] == "27 more, in the colours of their families"
    assert {name.split(":")[0] for name in names[:-1]} == {style[2] for style in FAMILIES.values()}
    assert sum(line.get_linewidth() == 0.7 for line in figure.axes[0].lines) == 27


def test_short_names_omit_common_prefixes_and_the_family() -> None:
    models = pd.Series(["cifar10-rn8w32-pruned-binary-k10-p01", "cifar10-rn8w32-dense-binary", "cifar10-rn8s29-dense"])
    assert [short(model, models) for model in models] == ["rn8w32-k10-p01", "rn8w32-dense-binary", "rn8s29-dense"]
    twins = pd.Series(["a-pruned-binary-k10", "a-k10", "b"])
    assert [short(model, twins) for model in twins] == ["a-pruned-binary-k10", "a-k10", "b"]


def test_labels_avoid_the_leader_lines_of_other_labels() -> None:
    box, line = Bbox.from_bounds(0, 0, 10, 10), ((-5.0, 5.0), (15.0, 5.0))
    elsewhere = ((-5.0, 50.0), (15.0, 50.0))
    upright, slanting, past = ((5.0, -5.0), (5.0, 15.0)), ((-5.0, -2.0), (15.0, 12.0)), ((-5.0, 8.0), (5.0, 18.0))
    boxes = np.array([[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 55.0, 55.0]])
    assert _crossings(boxes, [None, None], [], [line, elsewhere]).tolist() == [1, 0]
    assert _crossings(boxes, [None, line], [box], []).tolist() == [0, 1]
    assert _crossings(boxes, [elsewhere, elsewhere], [box], [line]).tolist() == [1, 0]
    assert _crossings(boxes, [None, None], [], [upright, slanting, past]).tolist() == [2, 0]


def test_partial_and_near_constant_models_are_labelled_and_not_on_the_front(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    frame = summary(outcomes[(outcomes["model"] != "small_one") | (outcomes["image"] < 4)], models)
    axes = accuracy_against_bytes(frame, "title").axes[0]
    assert "small_one (partial 4/8)" in {text.get_text() for text in axes.texts}
    (front,) = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    assert ys(front) == [62.5, 62.5]
    labels = accuracy_by_attack(frame.assign(near_constant=True), "title").axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["large\n(near-constant)", "small_one\n(partial 4/8, near-constant)"]


def test_the_attack_figure_has_a_mark_per_attack(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    axes = accuracy_by_attack(summary(outcomes, models), "title").axes[0]
    lines = {line.get_label(): xs(line) for line in axes.lines}
    assert lines == {"pgd": [50.0, 75.0], "cw-linf": [37.5, 75.0], "clean": [87.5, 87.5]}
    (marks,) = axes.collections
    paths: list[Any] = list(marks.get_paths())
    assert [path.vertices[0, 0] for path in paths] == [37.5, 62.5]
    heights = {line.get_label(): ys(line) for line in axes.lines}
    assert heights["pgd"] != heights["cw-linf"], "equal numbers would hide each other"


def test_the_curve_starts_at_clean_accuracy_and_is_sorted_by_radius(models: pd.DataFrame) -> None:
    marks = {"16/255": "1000", "2/255": "1110", "8/255": "1100"}
    frame = pd.DataFrame([row for radius, robust in marks.items() for row in rows("large", "pgd", robust, radius, clean_wrong=0)])
    (curve,) = epsilon_curve(summary(frame, models), "title").axes[0].containers
    assert xs(curve[0]) == [0.0, 2.0, 8.0, 16.0]
    assert ys(curve[0]) == [100.0, 75.0, 50.0, 25.0]


def test_points_of_a_curve_are_shifted_horizontally_per_model(models: pd.DataFrame) -> None:
    frame = pd.DataFrame([row for name in models["id"] for radius in ("2/255", "8/255") for row in rows(name, "pgd", "1100", radius)])
    figure = epsilon_curve(summary(frame, models), "title")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    shifts = []
    for curve in axes.containers:
        line = curve[0]
        shift = line.get_transform().transform(line.get_xydata()) - axes.transData.transform(line.get_xydata())
        assert abs(shift[:, 1]).max() < 1e-6 and shift[:, 0].std() < 1e-6
        shifts.append(round(shift[0, 0] * 72 / figure.dpi, 3))
    assert shifts == [-2.0, 2.0]


def test_a_report_is_reproducible_and_lists_its_files(outcomes: pd.DataFrame, models: pd.DataFrame, tmp_path: Path) -> None:
    first = build(outcomes, models, tmp_path / "a", formats=FORMATS, fewest_models=1).paths
    second = build(outcomes.sample(frac=1.0, random_state=1), models, tmp_path / "b", formats=FORMATS, fewest_models=1).paths
    assert [path.name for path in first] == [path.name for path in second]
    assert {path.suffix for path in first} == {f".{suffix}" for suffix in FORMATS}
    for first_path, second_path in zip(first, second, strict=True):
        assert first_path.read_bytes() == second_path.read_bytes(), first_path.name
        assert first_path.stat().st_size < 300 * 1024
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(path.name for path in first)


def test_a_report_changes_neither_matplotlib_settings_nor_its_input(outcomes: pd.DataFrame, models: pd.DataFrame, tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    original = outcomes.copy(deep=True)
    build(outcomes, models, tmp_path)
    assert dict(mpl.rcParams) == before
    pd.testing.assert_frame_equal(outcomes, original)


def test_a_pdf_figure_has_no_date(outcomes: pd.DataFrame, models: pd.DataFrame, tmp_path: Path) -> None:
    paths = [save(accuracy_by_attack(summary(outcomes, models), "title"), tmp_path / name, ("pdf",))[0] for name in "ab"]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].read_bytes().startswith(b"%PDF") and b"CreationDate" not in paths[0].read_bytes()


def test_a_report_has_figures_in_the_requested_formats(outcomes: pd.DataFrame, models: pd.DataFrame, tmp_path: Path) -> None:
    both = [build(outcomes, models, tmp_path / name, formats=("md", "svg", "pdf"), fewest_models=1).paths for name in "ab"]
    assert {path.suffix for path in both[0]} == {".md", ".svg", ".pdf"}
    assert all(one.read_bytes() == other.read_bytes() for one, other in zip(*both, strict=True))


def test_without_common_images_a_report_has_tables_only(outcomes: pd.DataFrame, models: pd.DataFrame, tmp_path: Path) -> None:
    disjoint = outcomes[(outcomes["attack"] == "pgd") == (outcomes["image"] < 4)]
    paths = build(disjoint, models, tmp_path, fewest_models=1).paths
    assert {path.suffix for path in paths} == {".md", ".csv"}
    assert "partial 0/4" in paths[0].read_text()


def test_a_figure_states_how_many_models_it_omits(outcomes: pd.DataFrame, models: pd.DataFrame, tmp_path: Path) -> None:
    paths = build(
        outcomes[(outcomes["model"] != "large") | (outcomes["attack"] == "pgd")], models, tmp_path, formats=("md", "svg"), fewest_models=1
    ).paths
    drawn = next(path.read_text() for path in paths if path.name.startswith("accuracy-bytes") and path.suffix == ".svg")
    assert "1 model unfinished and not shown" in drawn and "n = 8;" in drawn


def test_many_radii_give_a_curve(models: pd.DataFrame, tmp_path: Path) -> None:
    frame = pd.DataFrame([row for radius in ("2/255", "4/255", "8/255") for row in rows("large", "pgd", "1100", radius)])
    names = [path.name for path in build(frame, models, tmp_path, fewest_models=1).paths]
    assert "accuracy-radius_cifar10-sample_linf.png" in names and not any("bytes" in name for name in names)


def test_a_curve_covers_only_radii_with_the_same_attacks(models: pd.DataFrame, tmp_path: Path) -> None:
    radii = ("2/255", "4/255", "16/255")
    weak = [row for radius in radii for row in rows("large", "pgd", "1110", radius)]
    strong = rows("large", "pgd", "1100") + rows("large", "autoattack", "1000")
    paths = {path.name: path for path in build(pd.DataFrame(weak + strong), models, tmp_path, formats=("svg",), fewest_models=1).paths}
    assert "worst case of pgd<" in paths["accuracy-radius_cifar10-sample_linf.svg"].read_text()
    assert "worst case of pgd, autoattack<" in paths["accuracy-bytes_cifar10-sample_linf-8-255.svg"].read_text()


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_files_contain_no_date(suffix: str, outcomes: pd.DataFrame, models: pd.DataFrame, tmp_path: Path) -> None:
    path = next(path for path in build(outcomes, models, tmp_path, formats=(suffix,), fewest_models=1).paths if path.suffix == f".{suffix}")
    assert b"dc:date" not in path.read_bytes() and b"Creation Time" not in path.read_bytes()


def test_few_models_have_tables_only(outcomes: pd.DataFrame, models: pd.DataFrame, tmp_path: Path) -> None:
    assert {path.suffix for path in build(outcomes, models, tmp_path).paths} == {".md", ".csv"}
    frame, records = registry_of(6)
    report = build(frame, records, tmp_path)
    assert {path.suffix for path in report.paths} == {".md", ".csv", ".png"}
    assert [path.stem for path in report.paths if path.suffix != ".csv"] == list(report.titles)


def test_only_requested_tables_are_written(outcomes: pd.DataFrame, models: pd.DataFrame, tmp_path: Path) -> None:
    assert list(build(outcomes, models, tmp_path, only=("summary",)).frames) == ["summary"]


def test_the_index_links_every_file(tmp_path: Path) -> None:
    report = build(*registry_of(6), tmp_path / "full", formats=FORMATS)
    text = index([Section("Suite full", "every model", "full", report)], {"selftest.md": "The self-test"})
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert {link for link in links if link.startswith("full/")} == {f"full/{path.name}" for path in report.paths}
    assert "selftest.md" in links and "![Most robust: " in text and all((tmp_path / link).is_file() for link in links if "/" in link)


def test_a_masked_model_is_marked_and_not_on_the_front(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    frame = summary(outcomes, models)
    for change in ({"flags": ["zero-gradient", ""]}, {"verdict": ["masked", "ok"]}):
        doubtful = frame.sort_values("model").assign(**change)
        axes = accuracy_against_bytes(doubtful, "subtitle").axes[0]
        (front,) = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
        assert ys(front)[0] == 37.5, "the front starts at the model without a mark"
        (mark,) = [str(values[0]) for values in change.values()]
        assert f"large ({mark})" in {text.get_text() for text in axes.texts}
        assert "small_one" in axes.get_figure().get_suptitle()  # type: ignore[union-attr]
