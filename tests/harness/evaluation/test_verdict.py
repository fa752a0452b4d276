"""Tests of the verdict: it follows from measurements and thresholds and names the failed checks."""

from dataclasses import replace
from typing import Any

import pytest
from scipy.stats import binom

from harness.evaluation import thresholds
from harness.evaluation.diagnostics import Diagnostics
from harness.evaluation.verdict import CHECKS, SIGNIFICANCE, judge, p_value

N = 250
# The second half of the 500 images is misclassified without an attack.
WRONG = "-" * N


def first(count: int, n: int = N) -> str:
    """Return marks of `n` images, the first `count` robust and the rest broken, followed by marks of the misclassified images."""
    return "1" * count + "0" * (n - count) + WRONG


def from_count(count: int, robust: int = N) -> str:
    """Return marks of N images of which those from `count` to `robust` are robust, followed by marks of the misclassified images."""
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


def test_a_sound_model_is_ok() -> None:
    verdict = judge(HONEST)
    assert (verdict.level, verdict.reasons, str(verdict)) == ("ok", (), "ok")
    assert (HONEST.images, HONEST.n) == (500, 250)


@pytest.mark.parametrize(
    ("change", "level", "kind"),
    [
        (changed("square", from_count(20, 150)), "masked", "square-helps"),
        (changed("transfer", from_count(20)), "masked", "transfer-helps"),
        (changed("descent", from_count(20)), "masked", "descent-helps"),
        (changed("decision", "0" * 10 + "1" * 54 + "-" * 436), "masked", "decisions-help"),
        (changed("noise", from_count(12)), "suspicious", "noise-helps"),
        (without_gradient(ce=75, margin=40), "masked", "zero-gradient"),
        (without_gradient(ce=75), "suspicious", "saturated"),
        (changed("ce", first(200)), "suspicious", "loss-gap"),
        ({"rising": "1" * 50 + "0" * 50 + "-" * 400}, "suspicious", "not-converged"),
        ({"sweep": {**HONEST.sweep, "64/255": first(20)}}, "masked", "large-radius"),
        ({"sweep": {**HONEST.sweep, "64/255": first(20)}, "predictions": (3,) * 500}, "suspicious", "near-constant"),
        ({"sweep": {**HONEST.sweep, "4/255": first(60)}}, "masked", "not-monotone"),
    ],
)
def test_each_failed_check_is_named(change: dict[str, Any], level: str, kind: str) -> None:
    verdict = judge(replace(HONEST, **change))
    assert (verdict.level, [reason.kind for reason in verdict.reasons]) == (level, [kind])
    assert str(verdict).startswith(f"{level}: ") and "honest models" in str(verdict)


@pytest.mark.parametrize(
    "change",
    [
        changed("square", from_count(2, 150)),
        changed("transfer", from_count(3)),
        changed("descent", from_count(3)),
        changed("decision", "0" + "1" * 63 + "-" * 436),
        changed("noise", from_count(1)),
        without_gradient(ce=5, margin=3, dlr=3),
        changed("ce", first(140)),
        {"rising": "1" * 20 + "0" * 80 + "-" * 400},
        {"sweep": {**HONEST.sweep, "8/255": first(164), "4/255": first(160)}},
        {"sweep": {**HONEST.sweep, "64/255": first(6)}},
    ],
)
def test_deviations_within_chance_are_ok(change: dict[str, Any]) -> None:
    assert judge(replace(HONEST, **change)).level == "ok"


def test_the_level_is_that_of_the_worst_reason() -> None:
    verdict = judge(replace(HONEST, rising="1" * 100 + "-" * 400, **without_gradient(ce=250, margin=250)))
    assert verdict.level == "masked" and {reason.level for reason in verdict.reasons} == {"masked", "suspicious"}


def test_missing_transfer_sources_are_reported_as_untested() -> None:
    robust = {name: marks for name, marks in HONEST.robust.items() if name != "transfer"}
    verdict = judge(replace(HONEST, robust=robust))
    assert (verdict.level, verdict.untested, str(verdict)) == ("ok", ("transfer",), "ok; transfer: not tested")


@pytest.mark.parametrize("n", [60, 250, 1000])
def test_false_alarms_of_100_sound_models_stay_below_the_family_error(n: int) -> None:
    """Set every share to its limit, the worst case of a sound model; the false-alarm probability is a binomial tail."""
    alarms = 0.0
    for check in CHECKS:
        share = check.share.value
        critical = next(count for count in range(n + 1) if p_value(count, n, share) < SIGNIFICANCE)
        alarms += float(binom.sf(critical - 1, n, share))
    assert alarms * thresholds.MODELS.value <= thresholds.FAMILY_ERROR.value


def test_the_first_images_of_a_diagnosis_form_a_diagnosis() -> None:
    fewer = HONEST.first(120)
    assert (fewer.images, fewer.n, fewer.robust["ce"]) == (120, 120, "1" * 110 + "0" * 10)
    assert judge(fewer).level == "ok"


@pytest.mark.parametrize("damage", [{"robust": {}}, {"rising": "01"}, {"rising": "2" * 500}, {"sweep": {"0": 3}}])
def test_inconsistent_measurements_are_errors(damage: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Diagnostics.from_dict(HONEST.to_dict() | damage)


def test_every_threshold_has_a_reason() -> None:
    rows = thresholds.table()
    assert len(rows) >= len(CHECKS) and all(len(str(row["reason"])) > 20 for row in rows)
