"""Tests of comparisons of one model with others: verdicts by the corrected test, the Pareto front and the sentences."""

from itertools import chain
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


def with_autoattack(*outcomes: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the outcomes together with the same outcomes under AutoAttack, as if from another suite."""
    frame = pd.DataFrame([row for part in outcomes for row in part])
    return pd.concat([frame, frame.drop_duplicates(["model", "image"]).assign(attack="autoattack")], ignore_index=True)


def comparison_of(**robust: str) -> Comparison:
    outcomes = [rows(model, "pgd", marks) for model, marks in robust.items()]
    return compare(pd.DataFrame(list(chain(*outcomes))), "mine", planned(*robust), SIZES, with_autoattack(*outcomes))[0]


def test_the_verdict_follows_from_the_paired_test_corrected_for_all_opponents() -> None:
    weak, close = "1" * 20 + "0" * 20, "1" * 28 + "0" * 12
    comparison = comparison_of(mine=MINE, weak=weak, close=close)
    by_model = {opponent.result.model: opponent for opponent in comparison.opponents}
    assert [opponent.result.model for opponent in comparison.opponents] == ["close", "weak"]
    assert by_model["weak"].p == pytest.approx(2 / 2**10) and by_model["weak"].adjusted == pytest.approx(4 / 2**10)
    assert by_model["weak"].verdict == "better" and by_model["weak"].difference == pytest.approx(0.25)
    assert by_model["close"].verdict == "no difference shown" and by_model["close"].p == 0.5
    assert by_model["weak"].low < 0.25 < by_model["weak"].high and by_model["weak"].images == 40
    exchanged = comparison_of(mine=weak, close=MINE)
    assert exchanged.opponents[0].verdict == "worse"


def test_the_correction_can_make_a_difference_insignificant() -> None:
    weak = "1" * 24 + "0" * 16
    single = comparison_of(mine=MINE, weak=weak)
    assert single.opponents[0].p < 0.05 and single.opponents[0].verdict == "better"
    corrected = comparison_of(mine=MINE, weak=weak, close="1" * 29 + "0" * 11)
    assert [opponent.verdict for opponent in corrected.opponents] == ["no difference shown"] * 2


def test_only_images_attacked_by_all_attacks_on_both_models_count() -> None:
    attacks = ("pgd", "cw-linf")
    outcomes = pd.DataFrame(
        rows("mine", "pgd", MINE)
        + rows("mine", "cw-linf", "0" + MINE[1:])
        + rows("close", "pgd", MINE)
        + rows("close", "cw-linf", MINE[:8])
    )
    comparison = compare(outcomes, "mine", planned("mine", "close", attacks=attacks), SIZES, with_autoattack(rows("mine", "pgd", MINE)))[0]
    assert comparison.target.worst.successes == 29 and comparison.target.worst.n == 40
    assert comparison.opponents[0].images == 8 and comparison.opponents[0].difference == pytest.approx(-1 / 8)
    assert comparison.front == ("mine",)


def test_pareto_front() -> None:
    assert comparison_of(mine=MINE, weak="1" * 20 + "0" * 20, close=MINE).front == ("weak", "mine")
    below = comparison_of(mine=MINE, weak="1" * 35 + "0" * 5)
    assert below.front == ("weak",)
    assert (
        "below the Pareto front" in sentences(below)[-1] and "weak withstands 35 of 40 at 1,000 bytes (packed file)" in sentences(below)[-1]
    )


def test_a_near_constant_model_is_named_and_not_on_the_front() -> None:
    outcomes = pd.DataFrame(rows("mine", "pgd", MINE)).assign(clean_prediction=3)
    combined = pd.concat([outcomes, pd.DataFrame(rows("weak", "pgd", "1" * 5 + "0" * 35))], ignore_index=True)
    all_outcomes = with_autoattack(combined.to_dict("records"))
    comparison = compare(combined, "mine", planned("mine", "weak"), SIZES, all_outcomes)[0]
    assert comparison.target.near_constant and comparison.front == ("weak",)
    assert any("is meaningless" in line for line in sentences(comparison))


def test_an_opponent_without_outcomes_is_named_and_not_tested() -> None:
    outcomes = pd.DataFrame(rows("mine", "pgd", MINE) + rows("weak", "pgd", "1" * 24 + "0" * 16))
    comparison = compare(outcomes, "mine", planned("mine", "weak", "absent"), SIZES, with_autoattack(outcomes.to_dict("records")))[0]
    assert [opponent.verdict for opponent in comparison.opponents] == ["better", "no outcomes"]
    assert comparison.opponents[0].adjusted == mcnemar([True] * 6, [False] * 6)
    assert any("No outcomes to compare with of absent." in line for line in sentences(comparison))


def test_an_empty_comparison() -> None:
    comparison = compare(pd.DataFrame(), "mine", planned("mine", "weak"), SIZES)[0]
    assert comparison.target.worst.n == 0 and "no images" in sentences(comparison)[0]


def test_the_threat_model_with_most_attacks_comes_first() -> None:
    plan = planned("mine", "weak", radius="4/255") + planned("mine", "weak", attacks=("pgd", "cw-linf"))
    outcomes = pd.DataFrame(rows("mine", "pgd", MINE, radius="4/255"))
    assert [comparison.threat for comparison in compare(outcomes, "mine", plan, SIZES)] == ["Linf 8/255", "Linf 4/255"]


def test_sentences_give_difference_interval_and_bytes() -> None:
    lines = sentences(comparison_of(mine=MINE, weak="1" * 20 + "0" * 20))
    assert lines[0].startswith("mine withstands pgd under Linf 8/255 on 30 of 40 images of cifar10-sample (75.0 [")
    assert lines[2].startswith("Better than weak: +25.0 points [+") and lines[2].endswith(
        "on 40 images, p = 0.002, at 2.0 times its bytes."
    )


def flagged(flags: str = "", black_box: bool = True, opponent_flags: str = "") -> Comparison:
    """Compare a model with one that withstands ten images fewer; either may have flags under an attack of another suite."""
    outcomes = pd.DataFrame(rows("mine", "pgd", MINE) + rows("weak", "pgd", "1" * 20 + "0" * 20)).assign(flags="")
    other_suite = outcomes.assign(
        attack="autoattack" if black_box else "pgd-adaptive", flags=outcomes["model"].map({"mine": flags, "weak": opponent_flags})
    )
    return compare(outcomes, "mine", planned("mine", "weak"), SIZES, pd.concat([outcomes, other_suite]))[0]


@pytest.mark.parametrize("flags", ["zero-gradient", "saturated", "black-box-better", "saturated, black-box-better"])
def test_a_masked_model_is_in_doubt_and_not_on_the_front(flags: str) -> None:
    comparison = flagged(flags)
    assert comparison.target.flags == tuple(flags.split(", ")) and comparison.target.doubt.startswith("verdict masked")
    assert comparison.opponents[0].verdict == "in doubt" and comparison.front == ("weak",)
    text = " ".join(sentences(comparison))
    assert "Better" not in text and "in doubt (verdict masked" in text and "not placed on the Pareto front" in text


def test_a_gradient_free_attack_is_required() -> None:
    comparison = flagged(black_box=False)
    assert comparison.target.doubt == "no gradient-free attack on these images" and comparison.front == ()
    assert comparison.opponents[0].verdict == "in doubt"
    outcomes = pd.DataFrame(rows("mine", "pgd", MINE) + rows("mine", "autoattack", MINE[:39]))
    assert not compare(outcomes[outcomes["attack"] == "pgd"], "mine", planned("mine"), SIZES, outcomes)[0].target.is_tested


def test_a_masked_opponent_can_be_beaten_but_not_lost_to() -> None:
    assert flagged(opponent_flags="zero-gradient").opponents[0].verdict == "better"
    weak = "1" * 20 + "0" * 20
    outcomes = pd.DataFrame(rows("mine", "pgd", weak) + rows("close", "pgd", MINE)).assign(flags="")
    all_outcomes = pd.concat(
        [outcomes, outcomes.assign(attack="autoattack", flags=outcomes["model"].map({"mine": "", "close": "saturated"}))]
    )
    assert compare(outcomes, "mine", planned("mine", "close"), SIZES, all_outcomes)[0].opponents[0].verdict == "in doubt"


def test_non_finite_logits_are_reported_and_do_not_affect_the_verdict() -> None:
    comparison = flagged("non-finite")
    assert comparison.target.flags == ("non-finite",) and comparison.opponents[0].verdict == "better"


def test_opponents_are_evaluated_on_the_images_of_the_compared_model() -> None:
    outcomes = [rows("mine", "pgd", "1" * 10 + "0" * 10), rows("weak", "pgd", "1" * 10 + "0" * 30)]
    comparison = compare(pd.DataFrame(list(chain(*outcomes))), "mine", planned("mine", "weak"), SIZES, with_autoattack(*outcomes))[0]
    assert comparison.opponents[0].result.worst.n == comparison.opponents[0].images == comparison.target.worst.n == 20


def test_an_insignificant_difference_after_correction_is_explained() -> None:
    comparison = comparison_of(mine=MINE, weak="1" * 24 + "0" * 16, close="1" * 29 + "0" * 11)
    assert any("interval of weak excludes 0" in line and "after Holm" in line for line in sentences(comparison))


@pytest.mark.parametrize(
    ("attack", "mark"), [("square", "black-box-better"), ("rays", "decisions-better"), ("transfer", "transfer-better")]
)
def test_probes_that_break_more_images_than_the_suite_cause_doubt(attack: str, mark: str) -> None:
    suite = [rows("mine", "pgd", MINE), rows("weak", "pgd", "1" * 10 + "0" * 30)]
    one_broken, six_broken = "0" + MINE[1:], "0" * 6 + MINE[6:]
    for marks, is_in_doubt in ((MINE, False), (six_broken, True)):
        all_outcomes = with_autoattack(*suite, rows("mine", attack, marks))
        target = compare(pd.DataFrame(list(chain(*suite))), "mine", planned("mine", "weak"), SIZES, all_outcomes)[0].target
        assert target.worst.successes == 30, "probes are not part of the worst case"
        assert [(probe.attack, probe.broken, probe.images) for probe in target.probes] == [(attack, marks[:30].count("0"), 30)]
        assert (mark in target.flags, bool(target.doubt)) == (is_in_doubt, is_in_doubt)
    # A probe on fewer images than are compared is ignored.
    all_outcomes = with_autoattack(*suite, rows("mine", attack, one_broken[:20]))
    assert compare(pd.DataFrame(list(chain(*suite))), "mine", planned("mine", "weak"), SIZES, all_outcomes)[0].target.probes == ()
