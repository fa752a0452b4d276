"""Tests that `check_outcomes` describes each deviation from the schema."""

from pathlib import Path

import pyarrow as pa
import pytest

from harness.evaluation.outcomes import SCHEMA, check_outcomes
from harness.runner.store import Store, Stored

RESULTS = Path(__file__).parents[3] / "results"


@pytest.fixture(scope="module")
def table() -> pa.Table:
    item = next(item for item in Store(RESULTS).read_all() if isinstance(item, Stored))
    return item.table.slice(0, 40)


def replace(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def test_valid_outcomes_have_no_fault(table: pa.Table) -> None:
    assert check_outcomes(table, 40) is None
    all_robust = replace(replace(table, "broken_by", pa.nulls(40)), "robust", pa.array([True] * 40))
    assert check_outcomes(all_robust, 40) is None, "all images robust"


@pytest.mark.parametrize("name", SCHEMA.names)
def test_missing_columns_and_wrong_types_are_described(table: pa.Table, name: str) -> None:
    assert "columns" in str(check_outcomes(table.drop_columns([name]), 40))
    other = pa.array(["x"] * 40) if name != "broken_by" else pa.array([1.0] * 40)
    assert f"column {name} of type" in str(check_outcomes(replace(table, name, other), 40))


@pytest.mark.parametrize("name", [name for name in SCHEMA.names if name != "broken_by"])
def test_missing_values_are_described(table: pa.Table, name: str) -> None:
    values = table[name].to_pylist()
    values[3] = None
    assert check_outcomes(replace(table, name, pa.array(values, SCHEMA.field(name).type)), 40) == f"missing values in column {name}"


def test_rows_and_ranges_are_checked(table: pa.Table) -> None:
    assert check_outcomes(table.slice(1), 40) == "39 rows"
    assert check_outcomes(replace(table, "image", pa.array([7] * 40)), 40) == "an image twice"
    assert check_outcomes(replace(table, "label", pa.array([-1] * 40)), 40) == "label = -1"
    assert check_outcomes(replace(table, "linf", pa.array([-0.5] * 40)), 40) == "linf = -0.5"
    contradiction = replace(replace(table, "robust", pa.array([False] * 40)), "robust_to_seen", pa.array([True] * 40))
    assert "robust to all queries" in str(check_outcomes(contradiction, 40))
    assert "both robust and broken, or neither" in str(check_outcomes(replace(table, "broken_by", pa.nulls(40)), 40))
    for value in (float("nan"), float("inf")):
        assert check_outcomes(replace(table, "l2", pa.array([value] * 40)), 40) == "l2 that is not finite"
