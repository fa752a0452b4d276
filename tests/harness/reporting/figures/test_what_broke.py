"""Tests of the figure that shows the share of images broken by each component."""

import pandas as pd
import pytest

from harness.reporting.components import components
from harness.reporting.figures import Material
from harness.reporting.figures.what_broke import figures, what_broke
from harness.reporting.frames import summary
from tests.harness.reporting.test_components import MODELS, PLANNED, attacked

__all__ = ["attacked"]


def widths(axes: object) -> dict[str, float]:
    """Return the lengths of the bars by colour."""
    return {str(bar.get_facecolor()): round(bar.get_width(), 6) for bar in axes.patches}  # type: ignore[attr-defined]


def test_panels_for_autoattack_and_for_all_attacks(attacked: pd.DataFrame) -> None:
    material = Material(attacked, summary(attacked, MODELS, PLANNED))
    ((stem, figure),) = figures(material)
    assert stem == "components_cifar10-sample_linf-8-255"
    alone, together = figure.axes
    assert [axes.get_title("left") for axes in (alone, together)] == ["autoattack alone", "all attacks, one after the other"]
    assert list(widths(alone).values()) == [20.0, 30.0, 10.0, 10.0, 30.0]
    assert list(widths(together).values()) == [20.0, 20.0, 10.0, 10.0, 10.0, 30.0]
    # Each component has the same colour in both panels.
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["clean errors", "pgd", "apgd-ce", "apgd-t", "seen, not returned", "left"]
    assert set(widths(alone)) < set(widths(together))
    assert [text.get_text() for text in alone.texts] == ["2", "3", "1", "3"], "numbers of images in the bars that are not hatched"


def test_a_single_attack_is_evaluated_on_images_common_to_all_attacks(attacked: pd.DataFrame) -> None:
    fewer = attacked[(attacked["attack"] == "autoattack") | (attacked["image"] > 4)]
    row = components(fewer, summary(fewer, MODELS, PLANNED), ["autoattack"]).iloc[0]
    assert row["worst_n"] == 5 and row["by left"] == pytest.approx(3 / 5) and row["by clean errors"] == pytest.approx(2 / 5)


def test_the_most_robust_model_is_on_top(attacked: pd.DataFrame) -> None:
    better = attacked.assign(model="n", robust=True, robust_to_seen=True, broken_by=None)
    outcomes = pd.concat([attacked, better])
    group = summary(outcomes, pd.DataFrame([{"id": name, "family": "dense", "bytes": 1} for name in "mn"]))
    frame = components(outcomes, group)
    axes = what_broke([("all", frame)], group, "title").axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["m", "n"]
    assert what_broke([("all", frame[frame["model"] == "n"])], group, "title").axes[0].get_yticklabels()[0].get_text() == "n"
