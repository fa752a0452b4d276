"""Tests of the numbers in the summary, compared with values computed by hand."""

import pandas as pd
import pytest

from harness.reporting.frames import attacks_of, groups_of, summary
from model_zoo.errors import UserError
from tests.harness.reporting.conftest import rows


def row_of(frame: pd.DataFrame, model: str) -> pd.Series:
    return frame[frame["model"] == model].iloc[0]


def test_accuracy_per_attack_and_pointwise_worst_case(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    frame = summary(outcomes, models)
    small, large = row_of(frame, "small_one"), row_of(frame, "large")
    assert (small["clean"], small["pgd"], small["cw-linf"], small["worst"]) == (7 / 8, 4 / 8, 3 / 8, 3 / 8)
    # Each attack leaves six images robust; together they leave five.
    assert (large["pgd"], large["cw-linf"], large["worst"]) == (6 / 8, 6 / 8, 5 / 8)
    assert (small["worst_low"], small["worst_high"]) == pytest.approx((0.1368, 0.6943), abs=1e-4)
    assert small["worst_n"] == 8 and small["bytes"] == 2048 and small["sparsity"] == 0.9
    assert set(attacks_of(frame)) == {"cw-linf", "pgd"}


def test_missing_images_make_a_cell_and_its_worst_case_partial(outcomes: pd.DataFrame, models: pd.DataFrame, planned: pd.DataFrame) -> None:
    large = row_of(summary(outcomes, models, planned), "large")
    assert (large["cw-linf_n"], large["cw-linf_planned"]) == (8, 16)
    assert (large["worst_n"], large["worst_planned"]) == (8, 16)


def test_the_worst_case_requires_every_planned_attack(outcomes: pd.DataFrame, models: pd.DataFrame, planned: pd.DataFrame) -> None:
    incomplete = outcomes[(outcomes["model"] != "large") | (outcomes["attack"] != "cw-linf")]
    large = row_of(summary(incomplete, models, planned), "large")
    assert large["worst_n"] == 0 and pd.isna(large["worst"]) and large["cw-linf_n"] == 0
    assert large["pgd"] == 6 / 8


def test_the_worst_case_covers_only_images_attacked_by_all_attacks(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    cut = outcomes[(outcomes["attack"] != "cw-linf") | (outcomes["image"] < 4)]
    small = row_of(summary(cut, models), "small_one")
    assert (small["worst"], small["worst_n"]) == (3 / 4, 4)


def test_without_a_plan_the_other_models_define_the_expected_images(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    frame = summary(outcomes[(outcomes["model"] != "large") | (outcomes["attack"] == "pgd")], models)
    large = row_of(frame, "large")
    assert large["worst_n"] == 0 and large["worst_planned"] == 8 and pd.isna(large["worst"]), "pgd alone would pass for the worst case"
    fewer = row_of(summary(outcomes[(outcomes["model"] != "large") | (outcomes["image"] < 6)], models), "large")
    assert (fewer["pgd_n"], fewer["pgd_planned"], fewer["worst_n"], fewer["worst_planned"]) == (6, 8, 6, 8)


def test_duplicates_and_mixed_protocols_are_errors(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    with pytest.raises(UserError, match="small_one · pgd · 0"):
        summary(pd.concat([outcomes, outcomes.iloc[:1]]), models)
    with pytest.raises(UserError, match="protocols 1, 2"):
        summary(pd.concat([outcomes.iloc[:8], outcomes.iloc[8:].assign(protocol=2)]), models)
    with pytest.raises(UserError, match="no outcomes"):
        summary(outcomes.iloc[:0], models)


def test_a_near_constant_model_is_flagged_given_enough_images(models: pd.DataFrame) -> None:
    frame = pd.DataFrame(rows("small_one", "pgd", "0" * 40) + rows("large", "pgd", "1" * 40, clean_wrong=0))
    frame.loc[(frame["model"] == "small_one") & (frame["image"] < 20), "clean_prediction"] = 3
    computed = summary(frame, models).set_index("model")["near_constant"]
    assert bool(computed["small_one"]) and not bool(computed["large"])
    recorded = summary(frame, models.assign(near_constant=pd.Series([None, True], dtype=object))).set_index("model")["near_constant"]
    assert recorded.tolist() == [True, True] and recorded.dtype == bool


def test_an_unregistered_model_has_numbers_without_properties(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    frame = summary(outcomes, models[models["id"] == "large"])
    assert row_of(frame, "small_one")["worst"] == 3 / 8 and pd.isna(row_of(frame, "small_one")["bytes"])


def test_threat_models_are_separate_groups(models: pd.DataFrame) -> None:
    frame = summary(pd.DataFrame(rows("large", "pgd", "1100") + rows("large", "pgd", "1000", radius="16/255")), models)
    assert [key for key, _ in groups_of(frame)] == [("cifar10-sample", "Linf", "8/255"), ("cifar10-sample", "Linf", "16/255")]
    assert frame["worst"].tolist() == [2 / 4, 1 / 4]


def test_numbers_of_a_row_cover_the_images_attacked_by_all_attacks(models: pd.DataFrame) -> None:
    frame = pd.DataFrame(rows("large", "pgd", "00001111", clean_wrong=0) + rows("large", "cw-linf", "10001111", clean_wrong=0)[:4])
    row = summary(frame, models).iloc[0]
    # pgd breaks the first four of eight images; these are all the images that cw-linf was run on.
    assert (row["pgd"], row["cw-linf"], row["worst"], row["pgd_n"], row["pgd_planned"]) == (0.0, 0.25, 0.0, 4, 8)


def test_flags_of_all_units_are_joined(outcomes: pd.DataFrame, models: pd.DataFrame) -> None:
    assert set(summary(outcomes, models)["flags"]) == {""}
    marked = outcomes.assign(flags=outcomes["attack"].map({"pgd": "saturated", "cw-linf": ""}).where(outcomes["model"] == "large", ""))
    assert summary(marked, models).set_index("model")["flags"].to_dict() == {"large": "saturated", "small_one": ""}
