"""Tests of table layout: published and measured numbers side by side in every format, and the underlying long frame."""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd
import pytest
from rich.console import Console
from scipy.stats import binomtest

from harness.reporting import renderers
from harness.reproduction.grid import fill, long
from harness.reproduction.layout import caption, lay_out, stacked
from harness.reproduction.measurements import Measurement, Measurements
from harness.reproduction.settings import Settings
from harness.reproduction.specification import get, names

PAPER = Measurement(4510, 10_000, "paper", "autoattack")
SMALL = Measurement(300, 1000, "small", "fast-autoattack")


def measurements_of(by_place: Mapping[tuple[str, str, str], Measurement], table: str = "table-2") -> Measurements:
    """Return measurements of the given cells of a table, by scale, row and column."""
    by_settings = {(scale, get(table).grid[row, column].settings): item for (scale, row, column), item in by_place.items()}

    def measurement(settings: Settings, measure: str, scale: str) -> Measurement | None:
        return by_settings.get((scale, settings))

    return measurement


def no_measurement(settings: Settings, measure: str, scale: str) -> Measurement | None:
    return None


MEASUREMENTS = measurements_of(
    {
        ("paper", "a = 0.001", "LBN"): PAPER,
        ("small", "a = 0.001", "LBN"): SMALL,
        ("small", "a = 0.01", "LBN"): replace(SMALL, successes=310, planned=2000),
        ("small", "a = 0.1", "LBN"): replace(SMALL, successes=990, marks=("empty layer",)),
        ("small", "a = 1", "LBN"): replace(SMALL, successes=200, flags=("saturated",)),
    }
)


def markdown(measurements: Measurements, table: str = "table-2") -> str:
    return renderers.markdown([lay_out(fill(get(table), measurements))])


def test_a_table_without_measurements_shows_published_numbers() -> None:
    text = markdown(no_measurement)
    assert "published: 8; paper scale: 0 of 8; small scale: 0 of 8" in text
    assert "| 0.001 | 33.08 | **45.06** |" in text and "| 0.1 | **41.01** | 44.63 |" in text
    assert "Bold: the best of each column." in text and "p. 7." in text and "Small scale" not in text


def test_measured_numbers_follow_the_published_ones() -> None:
    text = markdown(MEASUREMENTS)
    assert "published: 8; paper scale: 1 of 8; small scale: 4 of 8" in text
    lines = text.splitlines()
    row = lines.index("| 0.001 | published | 33.08 | **45.06** |")
    assert lines[row + 1] == "|  | paper scale | – | **45.1** [44.1, 46.1] |"
    assert lines[row + 2] == "|  | difference |  | +0.0 |"
    assert lines[row + 3] == "|  | small scale | – | (30.0 [27.2, 32.9]) |"
    assert "(**31.0** [28.2, 33.9] partial 1000/2000)" in text, "the best of the cells without marks"
    assert "(99.0∅ [98.2, 99.5])" in text and "left out of every test" in text
    assert "(20.0§ [17.6, 22.6])" in text and "§: the cross-entropy has no gradient" in text
    assert "autoattack, n = 10,000" in text and "fast-autoattack, n = 1,000" in text


def test_a_different_measurement_changes_the_cell_and_its_significance() -> None:
    doctored = measurements_of({("paper", "a = 0.001", "LBN"): replace(PAPER, successes=4000)})
    assert "| difference |  | −5.1∗ |" in markdown(doctored) and "**40.0** [39.0, 41.0]" in markdown(doctored)
    frame = long(fill(get("table-2"), doctored)).set_index(["row", "column"])
    row = frame.loc[("a = 0.001", "LBN")]
    assert (row["published"], row["paper_measured"], row["paper_n"], row["paper_significant"]) == (0.4506, 0.4, 10_000, True)
    assert row["paper_p"] == pytest.approx(binomtest(4000, 10_000, 0.4506).pvalue) and row["paper_difference"] == pytest.approx(-0.0506)
    same = long(fill(get("table-2"), measurements_of({("paper", "a = 0.001", "LBN"): PAPER}))).set_index(["row", "column"])
    assert not same.loc[("a = 0.001", "LBN"), "paper_significant"]
    assert pd.isna(frame.loc[("a = 1", "LBN"), "paper_n"]) and pd.isna(row["small_measured"])


def test_footnotes_are_marked_in_cells_and_listed_once() -> None:
    text = markdown(no_measurement, "table-4")
    assert "| 38.81¹ | 26.03² | 27.68³ | 15.85⁴ | 25.40⁵ | 10.44⁵ |" in text
    assert text.count("⁵ The caption names") == 1 and "23.32⁶" in text and "⁶ Table 9 of the paper prints 22.49" in text


def test_data_sets_are_counted_separately() -> None:
    grid = fill(get("table-9"), measurements_of({("small", "BCS RN34", "CIFAR-10 FP"): SMALL}, "table-9"))
    assert "small scale: CIFAR-10 1 of 54, CIFAR-100 0 of 54" in caption(grid) and "paper scale: 0 of 108" in caption(grid)
    chosen = fill(get("table-9"), no_measurement, rows=["BCS"], columns=["CIFAR-10"])
    assert [len(row) for row in lay_out(chosen).rows] == [5, 5] and len(long(chosen)) == 4


@pytest.mark.parametrize("name", names())
def test_numbers_are_not_truncated_at_80_columns(name: str) -> None:
    def measurement(settings: Settings, measure: str, scale: str) -> Measurement | None:
        return replace(PAPER if scale == "paper" else SMALL, planned=20_000)

    table = get(name)
    if table.computed is not None:
        return
    console = Console(width=80, record=True, file=open("/dev/null", "w"), color_system=None)  # noqa: PTH123, SIM115
    parts = stacked(lay_out(fill(table, measurement), narrow=True), 80)
    for part in renderers.terminal(parts):
        console.print(part)
    text = console.export_text()
    assert "…" not in text
    words = text.split()
    for cell in table.grid.values():
        assert any(word.startswith(f"{float(cell.published.percent):.2f}") for word in words)
    assert words.count("10000/20000") == words.count("1000/20000") == len(table.grid)
    assert words.count("45.1") + words.count("(30.0)") == 2 * len(table.grid)


def test_latex_and_csv_have_the_same_cells() -> None:
    grid = fill(get("table-2"), MEASUREMENTS)
    text = renderers.latex([lay_out(grid)])
    assert r"\toprule" in text and r" & small scale & -- & (30.0 [27.2, 32.9]) \\" in text
    assert r"0.001 & published & 33.08 & \textbf{45.06} \\" in text and r"\addlinespace" in text
    assert r"99.0$\emptyset$" in text
    lines = renderers.csv(long(grid)).splitlines()
    assert len(lines) == 9 and ",0.4506,p. 7,,0.451,4510,10000,10000," in lines[2]


def test_several_seeds_are_reported() -> None:
    seeds = measurements_of({("small", "a = 0.001", "LBN"): replace(SMALL, seed_values=(0.3, 0.31, 0.29))})
    assert "of several seeds, the first is shown" in markdown(seeds)
    assert long(fill(get("table-2"), seeds))["small_seeds"].dropna().tolist() == [3]
