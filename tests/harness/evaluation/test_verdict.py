"""Tests of the verdict: it follows from the measurements and the thresholds, and names the checks that failed."""

from dataclasses import replace
from typing import Any

import pytest
from scipy.stats import binom

from harness.evaluation import thresholds
from harness.evaluation.diagnostics import Diagnostics
from harness.evaluation.verdict import CHECKS, SIGNIFICANCE, judge, p_value

N = 250
# Of 500 images, the second half is misclassified without an attack.
WRONG = "-" * N


def first(count: int, n: int = N) -> str:
    """Return marks of n images, the first `count` robust and the others broken, followed by those of the misclassified images."""
    return "1" * count + "0" * (n - count) + WRONG


def but_first(count: int, robust: int = N) -> str:
    """Return marks of N images of which only those from `count` up to `robust` are robust, and of the misclassified images."""
    return "0" * count + "1" * (robust - count) + "0" * (N - robust) + WRONG


HONEST = Diagnostics(
    predictions=tuple(range(500)),
    median_gap=1.0,
    saturated=0.0,
    no_gradient={"ce": first(0), "margin": first(0), "dlr": first(0)},
    robust={
        "ce": first(110),
        "margin": first(100),
        "descent": first(200),
        "square": first(150),
        "noise": first(245),
        "transfer": first(180),
        "decision": "1" * 64 + "-" * 436,
    },
    rising="0" * 100 + "-" * 400,
    sweep={"0": first(250), "4/255": first(160), "8/255": first(100), "64/255": first(0)},
    sources=("another",),
)


def changed(probe: str, marks: str) -> dict[str, Any]:
    return {"robust": {**HONEST.robust, probe: marks}}


def without_gradient(**shares: int) -> dict[str, Any]:
    return {"no_gradient": {**HONEST.no_gradient, **{loss: first(count) for loss, count in shares.items()}}}


def test_an_honest_model_is_ok() -> None:
    verdict = judge(HONEST)
    assert (verdict.level, verdict.reasons, str(verdict)) == ("ok", (), "ok")
    assert (HONEST.images, HONEST.n) == (500, 250)


@pytest.mark.parametrize(
    ("change", "level", "kind"),
    [
        (changed("square", but_first(20, 150)), "masked", "square-helps"),
        (changed("transfer", but_first(20)), "masked", "transfer-helps"),
        (changed("descent", but_first(20)), "masked", "descent-helps"),
        (changed("decision", "0" * 10 + "1" * 54 + "-" * 436), "masked", "decisions-help"),
        (changed("noise", but_first(12)), "suspicious", "noise-helps"),
        (without_gradient(ce=75, margin=40), "masked", "zero-gradient"),
        (without_gradient(ce=75), "suspicious", "saturated"),
        (changed("ce", first(200)), "suspicious", "loss-gap"),
        ({"rising": "1" * 50 + "0" * 50 + "-" * 400}, "suspicious", "not-converged"),
        ({"sweep": {**HONEST.sweep, "64/255": first(20)}}, "masked", "large-radius"),
        ({"sweep": {**HONEST.sweep, "64/255": first(20)}, "predictions": (3,) * 500}, "suspicious", "near-constant"),
        ({"sweep": {**HONEST.sweep, "4/255": first(60)}}, "masked", "not-monotone"),
    ],
)
def test_each_fault_is_named(change: dict[str, Any], level: str, kind: str) -> None:
    verdict = judge(replace(HONEST, **change))
    assert (verdict.level, [reason.kind for reason in verdict.reasons]) == (level, [kind])
    assert str(verdict).startswith(f"{level}: ") and "honest models" in str(verdict)


@pytest.mark.parametrize(
    "change",
    [
        changed("square", but_first(2, 150)),
        changed("transfer", but_first(3)),
        changed("descent", but_first(3)),
        changed("decision", "0" + "1" * 63 + "-" * 436),
        changed("noise", but_first(1)),
        without_gradient(ce=5, margin=3, dlr=3),
        changed("ce", first(140)),
        {"rising": "1" * 20 + "0" * 80 + "-" * 400},
        {"sweep": {**HONEST.sweep, "8/255": first(164), "4/255": first(160)}},
        {"sweep": {**HONEST.sweep, "64/255": first(6)}},
    ],
)
def test_what_chance_can_do_accuses_no_model(change: dict[str, Any]) -> None:
    assert judge(replace(HONEST, **change)).level == "ok"


def test_the_worst_reason_gives_the_level() -> None:
    verdict = judge(replace(HONEST, rising="1" * 100 + "-" * 400, **without_gradient(ce=250, margin=250)))
    assert verdict.level == "masked" and {reason.level for reason in verdict.reasons} == {"masked", "suspicious"}


def test_without_models_to_transfer_from_it_says_so() -> None:
    robust = {name: marks for name, marks in HONEST.robust.items() if name != "transfer"}
    verdict = judge(replace(HONEST, robust=robust))
    assert (verdict.level, verdict.untested, str(verdict)) == ("ok", ("transfer",), "ok; transfer: not tested")


@pytest.mark.parametrize("n", [60, 250, 1000])
def test_all_checks_of_a_hundred_honest_models_together_accuse_one_in_at_most_one_run_of_twenty(n: int) -> None:
    """Check with every share at its limit, the worst honest case; the alarm probability is the tail of a binomial distribution."""
    alarms = 0.0
    for check in CHECKS:
        share = check.share.value
        critical = next(count for count in range(n + 1) if p_value(count, n, share) < SIGNIFICANCE)
        alarms += float(binom.sf(critical - 1, n, share))
    assert alarms * thresholds.MODELS.value <= thresholds.FAMILY_ERROR.value


def test_the_first_images_of_a_diagnosis_are_a_diagnosis_of_theirs() -> None:
    fewer = HONEST.first(120)
    assert (fewer.images, fewer.n, fewer.robust["ce"]) == (120, 120, "1" * 110 + "0" * 10)
    assert judge(fewer).level == "ok"


@pytest.mark.parametrize("damage", [{"robust": {}}, {"rising": "01"}, {"rising": "2" * 500}, {"sweep": {"0": 3}}])
def test_measurements_of_other_images_are_refused(damage: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Diagnostics.from_dict(HONEST.to_dict() | damage)


def test_every_threshold_has_its_reason() -> None:
    rows = thresholds.table()
    assert len(rows) >= len(CHECKS) and all(len(str(row["reason"])) > 20 for row in rows)
