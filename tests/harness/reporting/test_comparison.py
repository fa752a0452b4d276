"""A model beside others: figures that can be counted by hand, verdicts that follow from the corrected test, the front, the words."""

from typing import Any

import pandas as pd
import pytest

from harness.reporting.comparison import Comparison, Size, compare, sentences
from harness.statistics import mcnemar
from tests.harness.reporting.conftest import rows

SIZES = {
    "mine": Size(2000, "tensors"),
    "weak": Size(1000, "packed file"),
    "close": Size(3000, "packed file"),
    "absent": Size(10, "packed file"),
}
MINE = "1" * 30 + "0" * 10


def planned(*models: str, attacks: tuple[str, ...] = ("pgd",), radius: str = "8/255") -> list[dict[str, Any]]:
    shared = {"dataset": "cifar10-sample", "norm": "Linf", "radius": radius, "images": 40}
    return [{**shared, "model": model, "attack": attack} for model in models for attack in attacks]


def found(**robust: str) -> Comparison:
    outcomes = pd.DataFrame([row for model, marks in robust.items() for row in rows(model, "pgd", marks)])
    return compare(outcomes, "mine", planned(*robust), SIZES)[0]


def test_a_verdict_follows_from_the_paired_test_corrected_for_all_opponents() -> None:
    weak, close = "1" * 20 + "0" * 20, "1" * 28 + "0" * 12
    comparison = found(mine=MINE, weak=weak, close=close)
    by_model = {opponent.standing.model: opponent for opponent in comparison.opponents}
    assert [opponent.standing.model for opponent in comparison.opponents] == ["close", "weak"]
    assert by_model["weak"].p == pytest.approx(2 / 2**10) and by_model["weak"].adjusted == pytest.approx(4 / 2**10)
    assert by_model["weak"].verdict == "better" and by_model["weak"].difference == pytest.approx(0.25)
    assert by_model["close"].verdict == "no difference shown" and by_model["close"].p == 0.5
    assert by_model["weak"].low < 0.25 < by_model["weak"].high and by_model["weak"].images == 40
    turned = compare(pd.DataFrame(rows("mine", "pgd", weak) + rows("close", "pgd", MINE)), "mine", planned("mine", "close"), SIZES)[0]
    assert turned.opponents[0].verdict == "worse"


def test_the_correction_can_take_a_difference_back() -> None:
    six = "1" * 24 + "0" * 16
    alone = found(mine=MINE, weak=six)
    assert alone.opponents[0].p < 0.05 and alone.opponents[0].verdict == "better"
    beside = found(mine=MINE, weak=six, close="1" * 29 + "0" * 11)
    assert [opponent.verdict for opponent in beside.opponents] == ["no difference shown"] * 2


def test_only_images_that_both_have_met_under_all_attacks_count() -> None:
    attacks = ("pgd", "cw-linf")
    outcomes = pd.DataFrame(
        rows("mine", "pgd", MINE)
        + rows("mine", "cw-linf", "0" + MINE[1:])
        + rows("close", "pgd", MINE)
        + rows("close", "cw-linf", MINE[:8])
    )
    comparison = compare(outcomes, "mine", planned("mine", "close", attacks=attacks), SIZES)[0]
    assert comparison.ours.worst.successes == 29 and comparison.ours.worst.n == 40
    assert comparison.opponents[0].images == 8 and comparison.opponents[0].difference == pytest.approx(-1 / 8)
    assert comparison.front == ("mine",)


def test_who_is_on_the_front_and_who_is_below() -> None:
    assert found(mine=MINE, weak="1" * 20 + "0" * 20, close=MINE).front == ("weak", "mine")
    below = found(mine=MINE, weak="1" * 35 + "0" * 5)
    assert below.front == ("weak",)
    assert (
        "below the Pareto front" in sentences(below)[-1] and "weak withstands 35 of 40 at 1,000 bytes (packed file)" in sentences(below)[-1]
    )


def test_a_model_that_always_says_the_same_is_named_and_on_no_front() -> None:
    outcomes = pd.DataFrame(rows("mine", "pgd", MINE)).assign(clean_prediction=3)
    both = pd.concat([outcomes, pd.DataFrame(rows("weak", "pgd", "1" * 5 + "0" * 35))], ignore_index=True)
    comparison = compare(both, "mine", planned("mine", "weak"), SIZES)[0]
    assert comparison.ours.near_constant and comparison.front == ("weak",)
    assert any("means nothing" in line for line in sentences(comparison))


def test_an_opponent_without_outcomes_is_named_and_tested_against_nothing() -> None:
    outcomes = pd.DataFrame(rows("mine", "pgd", MINE) + rows("weak", "pgd", "1" * 24 + "0" * 16))
    comparison = compare(outcomes, "mine", planned("mine", "weak", "absent"), SIZES)[0]
    assert [opponent.verdict for opponent in comparison.opponents] == ["better", "no outcomes"]
    assert comparison.opponents[0].adjusted == mcnemar([True] * 6, [False] * 6)
    assert any("No outcomes to compare with of absent." in line for line in sentences(comparison))


def test_nothing_at_all_is_said_to_be_nothing() -> None:
    comparison = compare(pd.DataFrame(), "mine", planned("mine", "weak"), SIZES)[0]
    assert comparison.ours.worst.n == 0 and "no images" in sentences(comparison)[0]


def test_the_threat_model_with_most_attacks_comes_first() -> None:
    plan = planned("mine", "weak", radius="4/255") + planned("mine", "weak", attacks=("pgd", "cw-linf"))
    outcomes = pd.DataFrame(rows("mine", "pgd", MINE, radius="4/255"))
    assert [one.threat for one in compare(outcomes, "mine", plan, SIZES)] == ["Linf 8/255", "Linf 4/255"]


def test_the_words_give_difference_interval_and_bytes() -> None:
    said = sentences(found(mine=MINE, weak="1" * 20 + "0" * 20))
    assert said[0].startswith("mine withstands all of pgd under Linf 8/255 on 30 of 40 images of cifar10-sample (75.0 [")
    assert said[2].startswith("Better than weak: +25.0 points [+") and said[2].endswith("on 40 images, p = 0.002, at 2.0 times its bytes.")
