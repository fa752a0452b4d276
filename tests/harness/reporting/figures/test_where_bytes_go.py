"""Tests of the figure of file sizes: the bars of a model add up to the size of its file."""

from typing import Any

import pandas as pd
import pytest

from harness.reporting.figures.where_bytes_go import PARTS, where_bytes_go
from model_zoo.catalogue import catalogue

MODELS = ["cifar10-rn8w32-pruned-binary-k10-p01", "cifar10-rn8w32-dense-binary", "cifar10-rn8w28-dense"]


@pytest.fixture(scope="module")
def group() -> pd.DataFrame:
    return catalogue({name: name for name in MODELS}).rename(columns={"id": "model"})


def lengths(axes: Any) -> dict[int, float]:
    """Return the total length of the bars per row."""
    total: dict[int, float] = {}
    for bar in axes.patches:
        row = round(bar.get_y() + bar.get_height() / 2)
        total[row] = total.get(row, 0.0) + bar.get_width()
    return total


def test_models_are_sorted_by_size_and_large_bars_are_cut_off(group: pd.DataFrame) -> None:
    kib, shares = where_bytes_go(group, "title").axes
    assert [text.get_text() for text in kib.get_yticklabels()] == ["rn8w28-dense", "rn8w32-dense-binary", "rn8w32-k10-p01"]
    sizes = sorted((group["bytes"] / 1024).tolist(), reverse=True)
    drawn = lengths(kib)
    assert drawn[1] == pytest.approx(sizes[1]) and drawn[2] == pytest.approx(sizes[2]) and drawn[0] == pytest.approx(2.5 * sizes[1])
    assert [text.get_text() for text in kib.texts] == ["… 930", "49.2", "23.7"] and "cut off" in kib.get_xlabel()
    assert lengths(shares) == pytest.approx({0: 100.0, 1: 100.0, 2: 100.0})


def test_every_part_of_a_file_has_a_colour(group: pd.DataFrame) -> None:
    assert set(PARTS) == {name for name in group if str(name).endswith("_bytes")}
    assert (group[list(PARTS)].sum(axis=1) == group["bytes"]).all()
