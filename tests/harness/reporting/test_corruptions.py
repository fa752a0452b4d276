"""Tests of reports on corruptions: means over corruptions and severities, the figure, and published numbers in a table of their own."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.reporting.corruptions import corrupted, published
from harness.reporting.figures import Material, draw_all
from harness.reporting.frames import CELLS
from harness.reporting.report import build
from harness.statistics import Proportion, clustered_interval
from model_zoo.errors import UserError
from model_zoo.publications import published as publications

# By corruption and severity: whether the prediction is right, for four images of one model.
RIGHT = {("fog", 1): "1111", ("fog", 2): "1100", ("frost", 1): "1000", ("frost", 2): "0000"}


def rows(model: str, right: dict[tuple[str, int], str] = RIGHT, clean: str = "1110") -> list[dict[str, Any]]:
    return [
        {
            "unit": f"{model}-{name}-{severity}",
            "protocol": 1,
            "model": model,
            "family": "dense",
            "dataset": "cifar10-sample",
            "norm": "corruptions",
            "radius": str(severity),
            "attack": name,
            "seed": 0,
            "image": image,
            "label": image,
            "clean_prediction": image if clean[image] == "1" else 9,
            "robust": mark == "1",
            "robust_to_seen": mark == "1",
            "broken_by": None if mark == "1" else name,
        }
        for (name, severity), marks in right.items()
        for image, mark in enumerate(marks)
    ]


def records(*names: str) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"id": name, "family": "dense", "weight_bits": 32, "keep_ratio": None, "sparsity": None, "bytes": 2048 * (place + 1)}
            for place, name in enumerate(names)
        ]
    )


def test_means_are_over_corruptions_and_severities() -> None:
    frame = corrupted(pd.DataFrame(rows("a")), records("a"))
    row = frame.iloc[0]
    assert (row["clean"], row["conditions"], row["mean_n"], row["mean_planned"]) == (0.75, 4, 4, 4)
    expected = {"mean": 7 / 16, "mean without frost": 6 / 8, "fog": 6 / 8, "frost": 1 / 8, "weather": 7 / 16}
    assert {name: row[name] for name in expected} == pytest.approx(expected)
    assert (row["severity 1"], row["severity 2"]) == pytest.approx((5 / 8, 2 / 8))
    # An image that is wrong without a corruption counts as right under one, if the prediction then is right.
    assert row[CELLS]["severity 1"].value > row[CELLS]["fog"].value * 0.8
    assert (row["mean_low"], row["mean_high"]) == clustered_interval([0.75, 0.5, 0.25, 0.25], 4)


def test_images_that_have_not_met_all_conditions_are_left_out() -> None:
    outcomes = pd.DataFrame(rows("a"))
    outcomes = outcomes[(outcomes["attack"] != "fog") | (outcomes["image"] < 3)]
    row = corrupted(outcomes, records("a")).iloc[0]
    assert row["mean_n"] == 3 and row["mean"] == pytest.approx(6 / 12) and row[CELLS]["mean"].partial == "partial 3/4"


def test_the_plan_decides_what_is_complete() -> None:
    shared = {"dataset": "cifar10-sample", "norm": "corruptions", "model": "a", "images": 4}
    planned = pd.DataFrame([{**shared, "attack": name, "radius": str(severity)} for name in ("fog", "frost") for severity in (1, 2, 3)])
    row = corrupted(pd.DataFrame(rows("a")), records("a"), planned).iloc[0]
    assert row["conditions"] == 6 and row["mean_n"] == 0 and pd.isna(row["mean"]), "severity 3 is missing for every image"


def test_namesakes_are_refused() -> None:
    outcomes = pd.DataFrame(rows("a") + rows("a"))
    with pytest.raises(UserError, match="occur twice"):
        corrupted(outcomes, records("a"))


def test_published_rows_are_of_the_data_that_was_measured() -> None:
    frame = published(publications(), corrupted(pd.DataFrame(rows("a")), records("a")))
    assert set(frame["dataset"]) == {"cifar10"} and len(frame) == 4
    assert frame["mean"].is_monotonic_decreasing and frame.iloc[0]["mean"] == pytest.approx(0.9278)
    assert published(publications(), pd.DataFrame()).empty


def test_a_report_of_corruptions_alone_has_its_tables_and_figure(tmp_path: Path) -> None:
    outcomes = pd.DataFrame(rows("a") + rows("b", dict.fromkeys(RIGHT, "1111")))
    report = build(outcomes, records("a", "b"), tmp_path, fewest_models=1)
    assert report.main_table == "corruptions" and "summary" not in report.frames
    assert {"corruptions", "corruptions-one-by-one", "robustbench-corruptions"} <= set(report.frames)
    assert "corruptions-bytes_cifar10-sample" in report.titles
    text = (tmp_path / "corruptions.md").read_text()
    assert "mean, own frost" in text and "43.8" in text and "cifar10-sample, corruptions, n = 4" in text
    block = (tmp_path / "robustbench-corruptions.md").read_text()
    assert "92.78" in block and "official files" in block and "92.78" not in text
    again = build(outcomes, records("a", "b"), tmp_path / "again", fewest_models=1)
    assert [path.read_bytes() for path in again.paths] == [path.read_bytes() for path in report.paths]


def test_corruptions_do_not_change_what_is_reported_about_attacks(outcomes: pd.DataFrame, models: pd.DataFrame, tmp_path: Path) -> None:
    alone = build(outcomes, models, tmp_path / "alone", fewest_models=1)
    mixed = build(pd.concat([outcomes, pd.DataFrame(rows("large"))]), models, tmp_path / "mixed", fewest_models=1)
    assert mixed.main_table == "summary"
    by_name = {path.name: path.read_bytes() for path in mixed.paths}
    assert all(by_name[path.name] == path.read_bytes() for path in alone.paths)


def test_the_figure_shows_the_mean_against_bytes() -> None:
    outcomes = pd.DataFrame(rows("a") + rows("b", dict.fromkeys(RIGHT, "1111")))
    material = Material(pd.DataFrame(), pd.DataFrame(columns=["dataset", "norm", "radius", "model", CELLS]), {}, 1)
    assert not list(draw_all(material))
    frame = corrupted(outcomes, records("a", "b"))
    figures = dict(draw_all(Material(pd.DataFrame(), material.summary, {}, 1, frame)))
    axes = figures["corruptions-bytes_cifar10-sample"].axes[0]
    points = {(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in axes.lines if len(line.get_xdata()) == 1}  # type: ignore[arg-type, index]
    assert {(2048.0, 43.75), (4096.0, 100.0)} <= points
    assert axes.get_ylabel() == "mean accuracy under corruptions, per cent"


def test_the_interval_of_a_mean_lies_between_those_of_images_and_answers() -> None:
    shares = [0.0, 1.0, 0.5, 0.5, 1.0, 0.0, 0.75, 0.25]
    low, high = clustered_interval(shares, 4)
    few, many = Proportion(4, 8).interval, Proportion(16, 32).interval
    assert few[0] <= low <= many[0] and many[1] <= high <= few[1]
    assert clustered_interval([1.0, 0.0, 1.0, 1.0], 1) == pytest.approx(Proportion(3, 4).interval)
    assert clustered_interval([1.0] * 8, 4) == pytest.approx(Proportion(8, 8).interval)
    assert clustered_interval([], 4) == (0.0, 1.0)
