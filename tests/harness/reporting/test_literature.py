"""Tests of tables of published and measured numbers; differences are given only between models of the same kind."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.reporting import tables
from harness.reporting.frames import summary
from harness.reporting.literature import literature
from harness.statistics import Proportion, unpaired_difference
from model_zoo.publications import published
from tests.harness.reporting.conftest import rows

# A table that compares the paper's method with others.
COMPARED = str(Path(__file__).parent / "compared.toml")
OURS: dict[str, Any] = {
    "id": "ours",
    "family": "pruned-binary",
    "method": "liu2022",
    "network": "ResNet-34",
    "weight_bits": 1,
    "keep_ratio": 0.01,
    "sparsity": 0.99,
    "allocation_power": 0.1,
    "weight_init": "binary",
    "last_batch_norm": "plain",
    "training": "pgd",
    "bytes": 272_000,
}


def literature_frame(table: str = COMPARED, robust: str = "1" * 20 + "0" * 20, planned: int = 40, **changes: Any) -> pd.DataFrame:
    """Return the frame of a table with one measured model."""
    outcomes = pd.DataFrame(rows("ours", "autoattack", robust))
    cell = {"dataset": "cifar10-sample", "norm": "Linf", "radius": "8/255", "model": "ours", "attack": "autoattack", "images": planned}
    frame = summary(outcomes, pd.DataFrame([{**OURS, **changes}]), pd.DataFrame([cell]))
    spec = tables.get(table)
    return literature(frame, published(), [(section.heading, section.where) for section in spec.sections], spec.published, spec.attack)


def test_a_model_of_a_published_kind_has_the_difference_and_its_interval_in_one_row() -> None:
    frame = literature_frame()
    row = frame[frame["model"] == "ours"].iloc[0]
    assert (row["published"], row["published_n"], row["measured"], row["measured_n"]) == (0.4506, 10_000, 0.5, 40)
    expected = unpaired_difference(Proportion(20, 40), Proportion(4506, 10_000))
    assert tuple(row[["difference", "difference_low", "difference_high"]]) == pytest.approx(expected)
    assert len(frame[(frame["network"] == "ResNet-34") & (frame["radius"] == "8/255")]) == 2, (
        "the second published model was trained with one step"
    )


@pytest.mark.parametrize(
    "changes", [{"keep_ratio": 0.05}, {"network": "ResNet-18"}, {"training": "trades"}, {"last_batch_norm": "none"}, {"method": None}]
)
def test_a_model_of_another_kind_has_a_separate_row(changes: dict[str, Any]) -> None:
    frame = literature_frame(COMPARED, **changes)
    assert "difference" not in frame or frame["difference"].isna().all()
    assert frame["published"].count() == len([row for row in published()["file"] if row == "liu2022"]) - 4, "18 and 50 are in no section"


def test_unknown_traits_match_unless_the_match_is_ambiguous() -> None:
    unspecified = literature_frame(weight_init=None, last_batch_norm=None)
    assert unspecified["difference"].count() == 1
    ambiguous = literature_frame(training=None)
    assert "difference" not in ambiguous or ambiguous["difference"].count() == 0


def test_a_difference_to_a_number_without_n_has_the_interval_of_the_measurement() -> None:
    row = {"method": "sehwag2020", "family": "sparse", "network": "ResNet-18", "keep_ratio": 0.1, "training": None, "weight_bits": 32}
    outcomes = pd.DataFrame(rows("ours", "autoattack", "1" * 10 + "0" * 10, radius="0.031"))
    frame = summary(outcomes, pd.DataFrame([{**OURS, **row, "sparsity": 0.9}]))
    spec = tables.get("adversarial-pruning")
    table = literature(frame, published(), [(section.heading, section.where) for section in spec.sections], spec.published, spec.attack)
    measured = table[table["model"] == "ours"].iloc[0]
    low, high = Proportion(10, 20).interval
    ends = (0.5 - 0.4334, low - 0.4334, high - 0.4334)
    assert tuple(measured[["difference", "difference_low", "difference_high"]]) == pytest.approx(ends)


def test_the_table_shows_n_partial_and_source() -> None:
    table = next(
        table for table in tables.render(tables.get(COMPARED), literature_frame(planned=1000)) if "cifar10, Linf 8/255" in table.caption
    )
    written = [[str(cell) for cell in row] for row in table.rows]
    cells = dict(zip(table.headings, next(row for row in written if "ours" in row), strict=True))
    assert cells["robust, published"] == "45.06 [44.1, 46.0]" and cells["n, published"] == "10,000"
    assert cells["robust, measured"] == "50.0 [35.2, 64.8] partial 40/1000" and cells["n, measured"] == "40"
    assert cells["difference"].startswith("+4.9 [−9.9, ") and cells["difference"].endswith("partial 40/1000")
    assert "Published: IVRL/RobustBinarySubNet README @3c5bd5d." in table.notes
    # ImageNet-100: the source does not say over how many images, so there is neither n nor an interval.
    other = next(table for table in tables.render(tables.get(COMPARED), literature_frame()) if "imagenet100" in table.caption)
    assert "n, published" not in other.headings and "33.04" in map(str, other.rows[0])


def test_a_section_can_exclude_models() -> None:
    frame = literature_frame(network="ResNet-8 (width 32)", family="sparse", method="sehwag2020")
    assert frame.set_index("model").loc["ours", "section"] == "pruned or quantised otherwise, CPU size"
    variant = literature_frame(network="ResNet-8 (width 32)", family="sparse")
    assert variant["model"].isna().all(), "a variant of the paper's method does not count as another method"


@pytest.mark.parametrize("name", [name for name in tables.names() if tables.get(name).published])
def test_every_table_has_published_rows_with_sources(name: str) -> None:
    spec = tables.get(name)
    sections = [(section.heading, section.where) for section in spec.sections]
    frame = literature(
        summary(pd.DataFrame(rows("m", "pgd", "10")), pd.DataFrame([{"id": "m"}])), published(), sections, spec.published, spec.attack
    )
    assert len(frame) and frame["source"].notna().all()
