"""A verdict follows from the measurements by the thresholds, and says which of them it was."""

from dataclasses import replace
from typing import Any

import pytest

from harness.evaluation import thresholds
from harness.evaluation.diagnostics import Diagnostics
from harness.evaluation.verdict import judge

N = 250


def first(count: int) -> list[bool]:
    return [row < count for row in range(N)]


HONEST = Diagnostics(
    images=500,
    n=N,
    near_constant=False,
    zero_gradient={"ce": 0.0, "margin": 0.0, "dlr": 0.0},
    median_gap=1.0,
    saturated=0.0,
    robust_ce=first(110),
    robust_margin=first(100),
    robust_square=first(150),
    robust_noise=first(245),
    robust_transfer=None,
    rising=0.0,
    sweep={"0": first(250), "4/255": first(160), "8/255": first(100), "64/255": first(0)},
)


def test_one_image_of_a_small_set_left_at_the_large_radius_is_no_alarm() -> None:
    def left(count: int, n: int) -> str:
        lists = {name: first(n)[:n] for name in ("robust_ce", "robust_margin", "robust_square", "robust_noise")}
        sweep = {"0": [True] * n, "64/255": [place < count for place in range(n)]}
        return judge(replace(HONEST, n=n, **lists, robust_transfer=None, sweep=sweep)).level

    assert left(1, 31) == "ok" and left(4, 31) == "masked"
    assert left(5, 250) == "ok" and left(13, 250) == "masked"


def test_an_honest_model_is_ok() -> None:
    verdict = judge(HONEST)
    assert (verdict.level, verdict.reasons, str(verdict)) == ("ok", (), "ok")


@pytest.mark.parametrize(
    ("change", "level", "kind"),
    [
        ({"robust_square": [row < 150 and row >= 10 for row in range(N)]}, "masked", "square-helps"),
        ({"robust_transfer": [row >= 10 for row in range(N)]}, "masked", "transfer-helps"),
        ({"zero_gradient": {"ce": 0.3, "margin": 0.1, "dlr": 0.1}}, "masked", "zero-gradient"),
        ({"zero_gradient": {"ce": 0.3, "margin": 0.0, "dlr": 0.0}}, "suspicious", "saturated"),
        ({"robust_ce": first(160)}, "suspicious", "loss-gap"),
        ({"robust_noise": [row >= 1 for row in range(N)]}, "suspicious", "noise-helps"),
        ({"rising": 0.2}, "suspicious", "not-converged"),
        ({"sweep": {**HONEST.sweep, "64/255": first(20)}}, "masked", "large-radius"),
        ({"sweep": {**HONEST.sweep, "64/255": first(20)}, "near_constant": True}, "suspicious", "near-constant"),
        ({"sweep": {**HONEST.sweep, "4/255": first(60)}}, "masked", "not-monotone"),
    ],
)
def test_each_fault_is_named(change: dict[str, Any], level: str, kind: str) -> None:
    verdict = judge(replace(HONEST, **change))
    assert (verdict.level, [reason.kind for reason in verdict.reasons]) == (level, [kind])
    assert str(verdict).startswith(f"{level}: ")


@pytest.mark.parametrize(
    "change",
    [
        {"robust_square": [row < 150 and row >= 1 for row in range(N)]},
        {"robust_transfer": [row >= 2 for row in range(N)]},
        {"zero_gradient": {"ce": 0.02, "margin": 0.01, "dlr": 0.01}},
        {"robust_ce": first(118)},
        {"rising": 0.05},
        {"sweep": {**HONEST.sweep, "8/255": first(163), "4/255": first(160)}},
        {"sweep": {**HONEST.sweep, "64/255": first(4)}},
    ],
)
def test_what_chance_can_do_accuses_nobody(change: dict[str, Any]) -> None:
    assert judge(replace(HONEST, **change)).level == "ok"


def test_the_worst_reason_gives_the_level() -> None:
    verdict = judge(replace(HONEST, rising=0.2, zero_gradient={"ce": 1.0, "margin": 1.0, "dlr": 1.0}))
    assert verdict.level == "masked" and {reason.level for reason in verdict.reasons} == {"masked", "suspicious"}


def test_every_threshold_has_its_reason() -> None:
    rows = thresholds.table()
    assert len(rows) >= 9 and all(len(str(row["reason"])) > 20 for row in rows)
