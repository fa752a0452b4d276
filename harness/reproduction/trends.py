"""Agreement of published and measured numbers: rank correlation over a table's cells, and the verdicts on its claims."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.reproduction.claims import RESAMPLES, SEED, Verdict
from harness.reproduction.grid import Grid
from harness.reproduction.measurements import Measurement
from harness.reproduction.specification import PaperTable

# Test images of each data set, from which the paper's proportions are.
TEST_IMAGES = {"cifar10": 10_000, "cifar100": 10_000, "imagenet100": 5_000}
# Scale of the paper's own numbers in messages.
PUBLISHED = "published"


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau-b between published and measured numbers of `n` cells, and its two-sided permutation p-value."""

    tau: float
    p: float
    n: int
    empty: int = 0

    def __str__(self) -> str:
        """Return the agreement as a sentence."""
        p = f"= {self.p:.4f}" if self.p >= 0.00005 else "< 0.0001"
        tau = f"{self.tau:.2f}".replace("-", "−")
        left_out = f"; {self.empty} left out, whose mask leaves a layer or a class without weights" if self.empty else ""
        return (
            f"Kendall's tau-b between published and measured: {tau} over {self.n} cells (two-sided p {p}, {RESAMPLES:,} permutations, "
            f"seed {SEED}{left_out})."
        )


def agreement(grid: Grid, scale: str) -> Agreement | None:
    """Return how published and measured numbers of a grid agree at a scale.

    Models whose mask leaves a layer or a class without weights are left out. Return None if fewer than three cells are left, or if the
    published or the measured numbers are all equal.
    """
    pairs = []
    measured = grid.measured[scale]
    for cell in grid.cells:
        measurement = measured.get((cell.row.name, cell.column.name))
        if measurement is not None and not measurement.is_empty and measurement.n:
            pairs.append((cell.published.value, measurement.value))
    if len(pairs) < 3 or min(len(set(values)) for values in zip(*pairs, strict=True)) < 2:
        return None
    tau, p = kendall(*zip(*pairs, strict=True))
    return Agreement(tau, p, len(pairs), sum(item.is_empty for item in measured.values()))


def kendall(left: Sequence[float], right: Sequence[float]) -> tuple[float, float]:
    """Return Kendall's tau-b and its two-sided p-value over random permutations of `left` (exact if there are fewer than `RESAMPLES`)."""
    import numpy as np
    from scipy.stats import kendalltau, permutation_test

    # Permutations change only the numerator of tau-b, the sum of sign products over pairs.
    first, second = np.triu_indices(len(right), 1)
    signs = np.sign(np.subtract(np.asarray(right)[first], np.asarray(right)[second]))

    def numerator(values: np.ndarray, axis: int) -> np.ndarray:
        values = np.moveaxis(values, axis, -1)
        return np.asarray(np.sign(values[..., first] - values[..., second]) @ signs)

    result = permutation_test(
        (np.asarray(left),), numerator, permutation_type="pairings", vectorized=True, batch=250, n_resamples=RESAMPLES, random_state=SEED
    )
    return float(kendalltau(left, right).statistic), float(result.pvalue)


def verdicts(grid: Grid, scale: str) -> list[Verdict]:
    """Return the verdicts on the claims of a table by what was measured at a scale."""
    return [claim.judge(grid.table, grid.measured[scale]) for claim in grid.table.claims]


def published_verdicts(table: PaperTable) -> list[Verdict]:
    """Return the verdicts on the claims of a table by the published numbers themselves, each a proportion of the test images."""
    measured = {}
    for place, cell in table.grid.items():
        n = TEST_IMAGES[cell.settings.dataset]
        measured[place] = Measurement(round(cell.published.value * n), n, PUBLISHED)
    return [claim.judge(table, measured) for claim in table.claims]
