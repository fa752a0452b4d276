"""Tests of the worst case split by the component that broke each image."""

import pandas as pd
import pytest

from harness.reporting import tables
from harness.reporting.components import components
from harness.reporting.frames import summary
from tests.harness.reporting.conftest import rows

CELL = {"dataset": "cifar10-sample", "norm": "Linf", "radius": "8/255", "model": "m", "images": 10}
PLANNED = pd.DataFrame([{**CELL, "attack": attack} for attack in ("pgd", "autoattack")])
MODELS = pd.DataFrame([{"id": "m", "family": "dense", "bytes": 1}])


@pytest.fixture
def attacked() -> pd.DataFrame:
    """Return outcomes of ten images.

    Two are clean errors; pgd breaks two others, AutoAttack four including those two, and a query that was seen breaks one more.
    """
    pgd, auto = (
        pd.DataFrame(rows("m", attack, marks, clean_wrong=2)) for attack, marks in (("pgd", "0011111100"), ("autoattack", "0000111100"))
    )
    auto.loc[[0, 1, 2], "broken_by"] = "apgd-ce"
    auto.loc[3, "broken_by"] = "apgd-t"
    auto.loc[4, "robust_to_seen"] = False
    return pd.concat([pgd, auto], ignore_index=True)


def test_every_image_counts_for_the_first_component_that_broke_it(attacked: pd.DataFrame) -> None:
    row = components(attacked, summary(attacked, MODELS, PLANNED)).iloc[0]
    shares = {name.removeprefix("by "): row[name] for name in row.index if str(name).startswith("by ")}
    expected = {"clean errors": 0.2, "pgd": 0.2, "apgd-ce": 0.1, "apgd-t": 0.1, "seen, not returned": 0.1, "left": 0.3}
    assert shares == pytest.approx(expected) and list(shares) == list(expected)
    assert row["worst"] == pytest.approx(shares["left"])


def test_only_images_attacked_by_all_attacks_count(attacked: pd.DataFrame) -> None:
    fewer = attacked[(attacked["attack"] == "pgd") | (attacked["image"] > 4)]
    row = components(fewer, summary(fewer, MODELS, PLANNED)).iloc[0]
    assert row["worst_n"] == 5 and row["by left"] == pytest.approx(3 / 5) and row["by clean errors"] == pytest.approx(2 / 5)


def test_the_table_has_a_column_per_component(attacked: pd.DataFrame) -> None:
    (table,) = tables.render(tables.get("components"), components(attacked, summary(attacked, MODELS, PLANNED)))
    assert table.headings == ["model", "clean errors", "pgd", "apgd-ce", "apgd-t", "seen, not returned", "left", "n"]
    assert [[str(cell) for cell in row] for row in table.rows] == [["m", "20.0", "20.0", "10.0", "10.0", "10.0", "30.0", "10"]]


def test_without_common_images_there_is_no_row() -> None:
    pgd_rows = pd.DataFrame(rows("m", "pgd", "11"))
    cw_rows = pd.DataFrame(rows("m", "cw-linf", "1111"))
    frame = pd.concat([pgd_rows[pgd_rows["image"] == 0], cw_rows[cw_rows["image"] == 3]], ignore_index=True)
    assert components(frame, summary(frame, MODELS)).empty
