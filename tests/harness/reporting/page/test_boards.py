"""Tests of boards: cells contain the numbers of the summary and the values used by filters, sorting and the picture."""

import pandas as pd

from harness.reporting.page.boards import Results, boards, slug
from tests.harness.reporting.conftest import rows


def row_data(outcomes: pd.DataFrame, models: pd.DataFrame, planned: pd.DataFrame | None = None) -> dict[str, dict[str, str]]:
    (board,), _ = boards([Results("some", outcomes, models, planned)], {})
    return {row.model: row.data for row in board.rows}


def test_cells_match_those_of_tables(outcomes: pd.DataFrame, models: pd.DataFrame, planned: pd.DataFrame) -> None:
    (board,), frames = boards([Results("some", outcomes, models, planned)], {})
    assert (board.suite, board.dataset, board.threat, board.slug) == (
        "some",
        "cifar10-sample",
        "Linf 8/255",
        "some-cifar10-sample-linf-8-255",
    )
    assert [row.model for row in board.rows] == ["large", "small_one"]
    large, small = (row.cells for row in board.rows)
    assert (small["worst"].text, small["worst"].interval, small["worst"].note) == ("37.5", "[13.7, 69.4]", "")
    assert large["worst"].note == "partial 8/16" and large["worst"].ends is not None and round(large["worst"].ends[1], 3) == 62.5
    assert (small["bytes"].text, small["bytes"].sort) == ("2,048", "2048")
    assert large["sparsity"].sort == "" and float(small["sparsity"].sort) == 0.9
    assert board.rows[1].counts == {"clean": 8, "pgd": 8, "cw-linf": 8, "worst": 8}
    assert board.rows[1].units == {"cw-linf": ["small_one-cw-linf"], "pgd": ["small_one-pgd"]}
    assert frames["some"].set_index("model").loc["small_one", "worst"] == 0.375


def test_only_sufficiently_tested_non_constant_models_are_on_the_front(models: pd.DataFrame) -> None:
    constant = [{**row, "clean_prediction": 3} for row in rows("constant", "pgd", "1" * 40)]
    outcomes = pd.DataFrame(rows("small_one", "pgd", "1" * 20 + "0" * 20) + rows("large", "pgd", "1" * 8) + constant)
    data = row_data(outcomes, pd.concat([models, pd.DataFrame([{"id": "constant", "bytes": 10}])]))
    assert {name: row["fit"] for name, row in data.items()} == {"small_one": "1", "large": "0", "constant": "0"}
    assert data["constant"]["family"] == "" and data["small_one"]["family"] == "pruned-binary"


def test_a_cell_without_outcomes_shows_partial_and_no_number(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    plan = pd.DataFrame(
        [
            {"dataset": "cifar10-sample", "norm": "Linf", "radius": "8/255", "model": "large", "attack": name, "images": 8}
            for name in ("pgd", "cw-linf", "autoattack")
        ]
    )
    (board,), _ = boards([Results("some", outcomes[outcomes["model"] == "large"], models, plan)], {})
    (row,) = board.rows
    assert (row.cells["worst"].text, row.cells["worst"].note, row.cells["worst"].sort) == ("", "partial 0/8", "")
    assert row.data["worst"] == row.data["low"] == "" and row.cells["pgd"].ends is not None


def test_a_slug_is_a_valid_file_name() -> None:
    assert slug("full-CIFAR 10-Linf-8/255") == "full-cifar-10-linf-8-255"
    assert slug("../../etc/<x>") == "etc-x"


def test_a_number_with_a_masking_flag_has_a_mark_and_a_note(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    flags = pd.Series("", index=outcomes.index).mask((outcomes["model"] == "large") & (outcomes["attack"] == "pgd"), "zero-gradient")
    (board,), _ = boards([Results("some", outcomes.assign(flags=flags), models)], {})
    large, small = board.rows
    assert (large.cells["pgd"].text, large.cells["worst"].text, large.cells["cw-linf"].text) == ("75.0§", "62.5§", "75.0")
    (note,) = large.notes
    assert note.startswith("§: ") and note in board.notes and not small.notes
