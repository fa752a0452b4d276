"""Tests that the self-test catches every planted fault, and that it fails if the harness misses one."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from harness import selftest
from harness.cli.main import main
from harness.evaluation import verdict
from harness.selftest import Case, Finding, Result, report

ALL = selftest.cases()
# These cases run all diagnostics, half a minute each; of such cases, only those of pitfalls 5 and 22 run by default.
LONG = [case for case in ALL if case.pitfall in (0, 1, 3, 4, 21)]


def test_every_pitfall_has_a_case_and_there_are_sound_controls() -> None:
    assert {case.pitfall for case in ALL} == set(range(23))
    assert sum(case.kind == "control" for case in ALL) >= 5
    assert len({case.name for case in ALL}) == len(ALL)


@pytest.mark.parametrize("case", [case for case in ALL if case not in LONG], ids=lambda case: f"{case.pitfall} {case.name}")
def test_a_planted_fault_is_caught(case: Case) -> None:
    result = selftest.run(case)
    assert result.passed, result.finding


@pytest.mark.slow
@pytest.mark.parametrize("case", LONG, ids=lambda case: f"{case.pitfall} {case.name}")
def test_a_masked_model_is_detected_and_a_sound_one_is_not(case: Case) -> None:
    result = selftest.run(case)
    assert result.passed, result.finding


def test_the_self_test_fails_if_the_verdict_is_always_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.selftest.machinery.judge", lambda diagnostics: verdict.Verdict("ok", ()))
    result = CliRunner().invoke(main, ["selftest", "--pitfall", "16", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)[0]["result"] == "missed"


def test_the_table_shows_results_and_what_detected_the_fault() -> None:
    fault, control = (Case(number, "planted | thing", kind, lambda: None) for number, kind in ((3, "model"), (0, "control")))
    results = [
        Result(fault, Finding(True, "the gate", 0.97)),
        Result(fault, None),
        Result(control, Finding(False, "ok", 0.3)),
        Result(control, Finding(True, "masked")),
    ]
    assert [row["result"] for row in report.rows(results)] == ["caught", "not applicable", "nothing found", "accused"]
    assert [result.passed for result in results] == [True, True, True, False]
    text = report.markdown(report.stored(results))
    assert "| 3 | planted \\| thing | model | caught | the gate | 97.0 |" in text and "square-gain" in text
    assert replace(results[0], finding=Finding(False, "nothing")).passed is False
