"""Tests of the long frame: counts, planned numbers and flags per measure."""

import pandas as pd

from harness.evaluation.counts import COLUMNS, long_frame, planned_images
from tests.harness.reporting.conftest import outcomes, planned

__all__ = ["outcomes", "planned"]


def test_one_row_per_model_and_measure_with_its_counts(outcomes: pd.DataFrame, planned: pd.DataFrame) -> None:
    long = long_frame(outcomes, planned)
    assert list(long.columns) == COLUMNS
    counts = long.set_index(["model", "measure"])[["successes", "n", "planned"]]
    assert {key: tuple(row) for key, row in zip(counts.index, counts.to_numpy().tolist(), strict=True)} == {
        ("large", "clean"): (7, 8, 16),
        ("large", "pgd"): (6, 8, 8),
        ("large", "cw-linf"): (6, 8, 16),
        ("large", "worst"): (5, 8, 16),
        ("small_one", "clean"): (7, 8, 8),
        ("small_one", "pgd"): (4, 8, 8),
        ("small_one", "cw-linf"): (3, 8, 8),
        ("small_one", "worst"): (3, 8, 8),
    }


def test_a_planned_attack_without_outcomes_has_zero_images(outcomes: pd.DataFrame, planned: pd.DataFrame) -> None:
    long = long_frame(outcomes[outcomes["attack"] == "pgd"], planned).set_index(["model", "measure"])
    assert long.loc[("large", "cw-linf"), ["successes", "n", "planned"]].tolist() == [0, 0, 16]


def test_flags_come_from_the_units_of_the_number(outcomes: pd.DataFrame) -> None:
    marked = outcomes.assign(
        flags=outcomes["attack"].map({"pgd": "saturated", "cw-linf": "non-finite"}).where(outcomes["model"] == "large", "")
    )
    long = long_frame(marked, planned_images(marked))
    flags = long[long["model"] == "large"].set_index("measure")["flags"].to_dict()
    both = "saturated, non-finite"
    assert flags == {"clean": both, "pgd": "saturated", "cw-linf": "non-finite", "worst": both}
    assert set(long.loc[long["model"] == "small_one", "flags"]) == {""}
