"""Tests of `harness show` on the committed results."""

import json
from pathlib import Path

from click.testing import CliRunner

import harness
from harness.cli.main import main

STORE = Path(__file__).parents[3] / "results"
MODEL = "cifar10-rn8w32-pruned-binary-k10-p01"


def show(*options: str) -> str:
    result = CliRunner().invoke(main, ["show", MODEL, "--store", str(STORE), *options])
    assert result.exit_code == 0, result.output
    return result.stdout


def worst_case() -> float:
    outcomes = harness.results(STORE)
    is_shown = (outcomes["model"] == MODEL) & (outcomes["norm"] == "Linf") & (outcomes["radius"] == "8/255")
    by_image = outcomes[is_shown].pivot(index="image", columns="attack", values="robust_to_seen").dropna()
    return float(by_image.astype(bool).all(axis=1).mean())


def test_show_leads_with_the_worst_case_and_the_verdict() -> None:
    lines = show().splitlines()
    row = next(line for line in lines if line.startswith("Linf 8/255"))
    assert f"  {100 * worst_case():.1f}  " in row
    assert "worst case" in row and "ok (n = 1,000)" in row
    assert lines.index(row) < min(place for place, line in enumerate(lines) if line.startswith(("family", "weights")))
    assert "after cw-l2" in next(line for line in lines if line.startswith("L2 1/2"))
    assert max(map(len, lines)) <= 80


def test_hashes_are_part_of_the_record_only() -> None:
    assert "weights_sha256" not in show()
    assert "weights_sha256" in show("--record")


def test_json_has_accuracies_by_threat_model() -> None:
    first = json.loads(show("--json"))["results"][0]
    assert (first["dataset"], first["threat"], first["verdict"]) == ("cifar10-sample", "Linf 8/255", "ok")
    worst = first["accuracies"]["worst"]
    assert worst["accuracy"] == worst_case() and worst["low"] < worst["accuracy"] < worst["high"]
    assert set(first["accuracies"]) >= {"clean", "pgd", "autoattack", "worst"}
