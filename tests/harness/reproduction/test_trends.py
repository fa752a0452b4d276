"""Tests of trends and claims with constructed numbers: supported, not supported and undecided."""

import itertools
from collections.abc import Mapping

import pytest
from scipy.stats import kendalltau

from harness.reproduction.claims import Measured, Verdict
from harness.reproduction.grid import Grid
from harness.reproduction.measurements import Measurement
from harness.reproduction.specification import get
from harness.reproduction.trends import agreement, kendall, published_verdicts, verdicts


def with_accuracies(percents: Mapping[tuple[str, str], float], n: int = 1000, seeds: int = 1, marks: tuple[str, ...] = ()) -> Measured:
    """Return measurements with the given accuracies in per cent; seeds differ by 0.1 points."""
    measurements = {}
    for cell, percent in percents.items():
        values = tuple((percent + 0.1 * seed) / 100 for seed in range(seeds)) if seeds > 1 else ()
        measurements[cell] = Measurement(round(percent * n / 100), n, "small", "fast-autoattack", marks=marks, seed_values=values)
    return measurements


def published(table: str) -> dict[tuple[str, str], float]:
    return {key: float(cell.published.percent) for key, cell in get(table).grid.items()}


def judge(table: str, numbers: Measured, claim: int = 0) -> Verdict:
    return get(table).claims[claim].judge(get(table), numbers)


def grid(table: str, numbers: Measured) -> Grid:
    spec = get(table)
    return Grid(spec, tuple(spec.grid.values()), {"paper": {}, "small": numbers})


def test_tau_b_equals_scipy_and_its_p_value_counts_permutations() -> None:
    left, right = [1.0, 2.0, 2.0, 4.0, 5.0], [10.0, 30.0, 20.0, 20.0, 50.0]
    tau, p = kendall(left, right)
    # Of ten pairs, one is tied on the left and one on the right, so tau-b divides by sqrt(9 * 9).
    concordant = sum((a[0] - b[0]) * (a[1] - b[1]) > 0 for a, b in itertools.combinations(zip(left, right, strict=True), 2))
    discordant = sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for a, b in itertools.combinations(zip(left, right, strict=True), 2))
    assert tau == pytest.approx((concordant - discordant) / 9) == pytest.approx(kendalltau(left, right).statistic)
    taus = [kendalltau(order, right).statistic for order in itertools.permutations(left)]
    above = sum(value >= tau - 1e-12 for value in taus) / len(taus)
    assert p == pytest.approx(2 * above), "exact, because there are few permutations"


def test_agreement_of_a_table_with_itself_and_reversed() -> None:
    numbers = published("table-1")
    same = agreement(grid("table-1", with_accuracies(numbers, 10_000)), "small")
    assert same is not None and same.tau > 0.99 and same.p < 0.001 and same.n == 49
    reverse = agreement(grid("table-1", with_accuracies({key: 100 - value for key, value in numbers.items()}, 10_000)), "small")
    assert reverse is not None and reverse.tau < -0.99 and reverse.p < 0.001
    assert "tau-b between published and measured: −1.00 over 49 cells (two-sided p = 0.0002, 10,000 permutations" in str(reverse)


def test_cells_without_weights_are_excluded_and_counted() -> None:
    numbers = published("table-2")
    empty = with_accuracies({("a = 1", "LBN"): 99.0}, marks=("empty class",))
    all_of_them = agreement(grid("table-2", {**with_accuracies(numbers, 10_000), **empty}), "small")
    assert all_of_them is not None and all_of_them.n == 7 and all_of_them.tau == pytest.approx(1.0)
    assert "1 left out, whose mask leaves a layer or a class without weights" in str(all_of_them)
    assert agreement(grid("table-2", empty), "small") is None


def test_claims_judged_on_the_published_numbers() -> None:
    outcomes = {
        name: [verdict.outcome for verdict in published_verdicts(get(name))] for name in ("table-1", "table-3", "table-4", "table-9")
    }
    assert outcomes["table-1"] == ["survives"] and outcomes["table-4"] == outcomes["table-9"] == ["survives"]
    assert outcomes["table-3"] == ["survives", "undecided"], "single runs cannot show equivalence"
    (verdict,) = published_verdicts(get("table-5"))
    assert verdict.outcome == "does not survive" and "AT LBN (RN18 binary)" in str(verdict)


def test_claim_best_p_follows_r() -> None:
    assert judge("table-1", with_accuracies(published("table-1"))).outcome == "survives"
    table = get("table-1")
    rows = [row.name for row in table.rows]
    # The best p rises with the pruning ratio, which contradicts the claim.
    against = {(row, column.name): 30.0 + (rows.index(row) == position) for position, column in enumerate(table.columns) for row in rows}
    assert judge("table-1", with_accuracies(against)).outcome == "does not survive"
    same = {key: 40.0 if key[0] == "p = 0.5" else 30.0 for key in published("table-1")}
    assert "the same row is best in all 7 columns" in judge("table-1", with_accuracies(same)).reason
    part = {key: value for key, value in published("table-1").items() if key != ("p = 0", "r = 0.5")}
    three = {key: value for key, value in part.items() if key[1] in ("r = 0.5", "r = 0.8", "r = 0.9", "r = 0.95")}
    assert "needs four complete columns, of which 3 are measured" in judge("table-1", with_accuracies(three)).reason


def test_claim_a_column_is_higher() -> None:
    numbers = published("table-3")
    assert judge("table-3", with_accuracies(numbers)).outcome == "survives"
    swapped = {
        (row, column): numbers[row, column.replace("no LBN", "X").replace("LBN", "no LBN").replace("X", "LBN")] for row, column in numbers
    }
    assert judge("table-3", with_accuracies(swapped)).outcome == "does not survive"
    # Four pairs can never be significant; four pairs of three seeds each can.
    single_runs = {key: 40.0 if key[1] == "LBN" else 30.0 for key in published("table-2")}
    assert judge("table-2", with_accuracies(single_runs)).outcome == "undecided"
    assert judge("table-2", with_accuracies(single_runs, seeds=3)).outcome == "survives"
    noisy = {(row, "no LBN"): 30.0 for row, _ in single_runs} | {
        (row, "LBN"): 30.0 + shift for (row, _), shift in zip(single_runs, (-5, -5, 6, 6, -4, -4, 5, 5), strict=True)
    }
    verdict = judge("table-2", with_accuracies(noisy, seeds=3))
    assert verdict.outcome == "undecided" and "needs more seeds or images" in verdict.reason


def test_claim_a_factor_matters_less() -> None:
    numbers = published("table-2")
    assert judge("table-2", with_accuracies(numbers), 1).outcome == "survives"
    swapped = {(row, "LBN" if column == "no LBN" else "no LBN"): value for (row, column), value in numbers.items()}
    assert judge("table-2", with_accuracies(swapped), 1).outcome == "does not survive"
    empty = with_accuracies({("a = 1", "LBN"): 44.0}, marks=("empty layer",))
    assert "of which 3 are measured" in judge("table-2", {**with_accuracies(numbers), **empty}, 1).reason


def test_claim_two_initialisations_are_equivalent() -> None:
    rows, columns = ("p = 0", "p = 0.1", "p = 0.2"), ("Signed KC LBN", "binary LBN")
    close = {(row, column): 40.0 + 0.3 * (column == "binary LBN") * (row != "p = 0") for row in rows for column in columns}
    verdict = judge("table-3", with_accuracies(close), 1)
    assert verdict.outcome == "undecided" and "needs 3 seeds in each of 6 cells, of which 0 have them" in verdict.reason
    assert judge("table-3", with_accuracies(close, seeds=3), 1).outcome == "survives"
    far = {key: value + (5.0 if key[1] == "binary LBN" else 0.0) for key, value in close.items()}
    assert judge("table-3", with_accuracies(far, seeds=3), 1).outcome == "does not survive"
    wide = {
        (row, column): 40.0 + shift * (column == "binary LBN") for row, shift in zip(rows, (-4, 0, 4), strict=True) for column in columns
    }
    assert judge("table-3", with_accuracies(wide, seeds=3), 1).outcome == "undecided"


def test_claim_a_row_beats_all_others() -> None:
    rivals = {key: 20.0 for key in published("table-4") if key[1] in ("CIFAR-10 binary", "CIFAR-100 binary")}
    best = {key: 40.0 if key[0] == "Ours RN34-LBN" else value for key, value in rivals.items()}
    assert judge("table-4", with_accuracies(best)).outcome == "survives"
    narrow = {key: 21.0 if key[0] == "Ours RN34-LBN" else value for key, value in rivals.items()}
    close = judge("table-4", with_accuracies(narrow))
    assert close.outcome == "undecided" and "needs more images for AT RN34 (CIFAR-10 binary)" in close.reason
    beaten = best | {("ATMC RN34 global", "CIFAR-10 binary"): 41.0}
    assert judge("table-4", with_accuracies(beaten)).reason == "as high or higher: ATMC RN34 global (CIFAR-10 binary)"
    variant = best | {("Ours (fast) RN34-LBN", "CIFAR-10 binary"): 60.0}
    assert judge("table-4", with_accuracies(variant)).outcome == "survives", "variants of the method are not rivals"
    missing = {key: value for key, value in best.items() if key[0] != "AT RN34"}
    assert "needs 2 of 16 comparisons that are not measured" in judge("table-4", with_accuracies(missing)).reason
    empty = {
        **with_accuracies(missing),
        **with_accuracies({("AT RN34", column): 90.0 for column in ("CIFAR-10 binary", "CIFAR-100 binary")}, marks=("empty",)),
    }
    assert judge("table-4", empty).outcome == "survives", "networks with an empty layer are not rivals"


def test_verdicts_are_printed_as_sentences() -> None:
    first, second = verdicts(grid("table-2", with_accuracies(published("table-2"))), "small")
    assert str(first).startswith("the last batch norm helps: undecided (needs five pairs of cells")
    assert "a matters less: survives (standard deviation 0.3 against 5.0 points" in str(second)
