"""Claims of a paper about the cells of a table, each a typed specification with its test."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.reproduction.measurements import Measurement

if TYPE_CHECKING:
    import numpy as np

    from harness.reproduction.specification import PaperTable

    Array = np.ndarray[Any, Any]

LEVEL = 0.05
RESAMPLES, SEED = 10_000, 0

# Fields of `Settings` that are numbers.
Ordered = Literal["keep_ratio", "p", "score_scale", "seed"]

# Measurements by the names of row and column.
Measured = Mapping[tuple[str, str], Measurement]


@dataclass(frozen=True)
class Verdict:
    """Outcome of a claim's test: `outcome` is "survives", "does not survive" or "undecided"; `reason` gives the test, or what it needs."""

    claim: str
    outcome: Literal["survives", "does not survive", "undecided"]
    reason: str

    def __str__(self) -> str:
        """Return the verdict as a sentence."""
        return f"{self.claim}: {self.outcome} ({self.reason})."


class _Claim(BaseModel):
    """A claim: `text` is the paper's statement in our words."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    text: str

    def row_names(self) -> Sequence[str]:
        """Return the names of rows that the claim mentions."""
        return ()

    def column_names(self) -> Sequence[str]:
        """Return the names of columns that the claim mentions."""
        return ()

    def needed(self, table: PaperTable) -> Mapping[tuple[str, str], int]:
        """Return the number of training seeds that the claim's test needs per cell, for cells that need more than one."""
        return {}

    def judge(self, table: PaperTable, measured: Measured) -> Verdict:
        """Test the claim with these measurements; models whose mask leaves a layer or a class without weights are left out."""
        return self._judge(table, {place: item for place, item in measured.items() if not item.is_empty}, measured)

    @abstractmethod
    def _judge(self, table: PaperTable, tested: Measured, measured: Measured) -> Verdict: ...

    def _undecided(self, needs: str, estimate: str = "") -> Verdict:
        return Verdict(self.text, "undecided", f"{estimate}; needs {needs}" if estimate else f"needs {needs}")

    def _one_sided(self, effect: float, p: float, test: str, needs: str) -> Verdict:
        """Return the verdict of a test in the claim's direction: an effect of 0 or against the claim does not support it."""
        if p < LEVEL:
            return Verdict(self.text, "survives", test)
        return Verdict(self.text, "does not survive", test) if effect <= 0 else self._undecided(needs, test)


class BestRowFollows(_Claim):
    """The best row of a column has a larger value of `row_setting` if the column has a larger value of `column_setting`.

    Spearman's correlation between the columns' setting and that of their best row, with the exact one-sided permutation p-value. A column
    counts if all of its cells are measured.
    """

    kind: Literal["best-row-follows"]
    row_setting: Ordered
    column_setting: Ordered

    def _judge(self, table: PaperTable, tested: Measured, measured: Measured) -> Verdict:
        from scipy.stats import rankdata, spearmanr

        column_values, best_values = [], []
        for column in table.columns:
            cells = {row: cell for (row, name), cell in table.grid.items() if name == column.name}
            places = [(row, column.name) for row in cells if (row, column.name) in tested]
            if len(places) < 2 or any((row, column.name) not in measured for row in cells):
                continue
            best_row, _ = max(places, key=lambda place: tested[place].value)
            column_values.append(getattr(cells[best_row].settings, self.column_setting))
            best_values.append(getattr(cells[best_row].settings, self.row_setting))
        if len(column_values) < 4:
            return self._undecided(f"four complete columns, of which {len(column_values)} are measured")
        if len(set(best_values)) == 1:
            return Verdict(self.text, "does not survive", f"the same row is best in all {len(best_values)} columns")
        correlation = float(spearmanr(column_values, best_values).statistic)
        ranks = rankdata(column_values)
        p = _permuted_p(rankdata(best_values), lambda values, axis: (values * ranks).sum(axis), "pairings")
        test = f"Spearman's correlation {_signed(correlation, 2)} over {len(ranks)} columns, one-sided p {_p(p)}"
        return self._one_sided(correlation, p, test, "more columns")


class Higher(_Claim):
    """The second column of each pair is higher than the first, in the same row.

    One-sided permutation test of the mean difference: signs of the differences are flipped. A row, a pair and a seed are one difference.
    """

    kind: Literal["higher"]
    pairs: tuple[tuple[str, str], ...]

    def column_names(self) -> Sequence[str]:
        """Return the names of columns that the claim mentions."""
        return [name for pair in self.pairs for name in pair]

    def _judge(self, table: PaperTable, tested: Measured, measured: Measured) -> Verdict:
        differences = [item for first, second in self.pairs for item in _differences(table, tested, first, second)]
        if len(differences) < 5:
            return self._undecided(f"five pairs of cells (or of seeds), of which {len(differences)} are measured")
        mean = sum(differences) / len(differences)
        p = _permuted_p(differences, lambda values, axis: values.mean(axis), "samples")
        test = f"mean difference {_signed(100 * mean)} points over {len(differences)} pairs, one-sided p {_p(p)}"
        return self._one_sided(mean, p, test, "more seeds or images")


class LessSpread(_Claim):
    """The numbers of a column spread less over the rows than those of another one.

    Pitman-Morgan test of two paired variances (Pitman 1939, Morgan 1939): the correlation between sums and differences, one-sided.
    """

    kind: Literal["less-spread"]
    column: str
    than: str

    def column_names(self) -> Sequence[str]:
        """Return the names of columns that the claim mentions."""
        return (self.column, self.than)

    def _judge(self, table: PaperTable, tested: Measured, measured: Measured) -> Verdict:
        import numpy as np
        from scipy.stats import pearsonr

        pairs = [pair for row in table.rows for pair in _pairs(tested, row.name, self.column, self.than)]
        if len(pairs) < 4:
            return self._undecided(f"four rows with both columns, of which {len(pairs)} are measured")
        less, more = np.array(pairs).T
        spreads = float(np.std(less, ddof=1)), float(np.std(more, ddof=1))
        if np.ptp(less + more) == 0 or np.ptp(less - more) == 0:
            return self._undecided("numbers that differ", f"standard deviations {100 * spreads[0]:.1f} and {100 * spreads[1]:.1f} points")
        p = float(pearsonr(less + more, more - less, alternative="greater").pvalue)
        test = (
            f"standard deviation {100 * spreads[0]:.1f} against {100 * spreads[1]:.1f} points over {len(pairs)} pairs, one-sided "
            f"Pitman-Morgan p {_p(p)}"
        )
        return self._one_sided(spreads[1] - spreads[0], p, test, "more seeds or images")


class Equivalent(_Claim):
    """Two columns differ by less than `margin` points in these rows.

    Two one-sided t-tests of the mean difference over rows and seeds (Schuirmann 1987). Each cell must have `seeds` seeds.
    """

    kind: Literal["equivalent"]
    columns: tuple[str, str]
    rows: tuple[str, ...]
    margin: float = Field(gt=0)
    seeds: int = Field(default=3, ge=2)

    def row_names(self) -> Sequence[str]:
        """Return the names of rows that the claim mentions."""
        return self.rows

    def column_names(self) -> Sequence[str]:
        """Return the names of columns that the claim mentions."""
        return self.columns

    def needed(self, table: PaperTable) -> Mapping[tuple[str, str], int]:
        """Return the number of training seeds that the test needs per cell."""
        return {place: self.seeds for place in table.grid if place[0] in self.rows and place[1] in self.columns}

    def _judge(self, table: PaperTable, tested: Measured, measured: Measured) -> Verdict:
        import numpy as np
        from scipy.stats import ttest_1samp

        counts = [len(tested[row, column].values) if (row, column) in tested else 0 for row in self.rows for column in self.columns]
        if min(counts) < self.seeds:
            return self._undecided(
                f"{self.seeds} seeds in each of {len(counts)} cells, of which {sum(c >= self.seeds for c in counts)} have them"
            )
        pairs = [pair for row in self.rows for pair in _pairs(tested, row, *self.columns)]
        differences = 100 * np.array([second - first for first, second in pairs])
        mean = float(differences.mean())
        if np.ptp(differences) == 0:
            return Verdict(
                self.text, "survives" if abs(mean) < self.margin else "does not survive", f"all differences are {mean:.1f} points"
            )
        above = float(ttest_1samp(differences, -self.margin, alternative="greater").pvalue)
        below = float(ttest_1samp(differences, self.margin, alternative="less").pvalue)
        p = max(above, below)
        test = (
            f"mean difference {_signed(mean)} points over {len(differences)} pairs, margin {self.margin:g}, two one-sided t-tests p {_p(p)}"
        )
        if p < LEVEL:
            return Verdict(self.text, "survives", test)
        if min(1 - above, 1 - below) < LEVEL:
            return Verdict(self.text, "does not survive", test)
        return self._undecided("more seeds or images", test)


class BeatsOthers(_Claim):
    """A row is higher than every other row in these columns, except for `variants` of its own method.

    Fisher's exact test of two counts, one-sided, for every other row; p-values are adjusted by Holm's method.
    """

    kind: Literal["beats-others"]
    row: str
    columns: tuple[str, ...]
    variants: tuple[str, ...] = ()

    def row_names(self) -> Sequence[str]:
        """Return the names of rows that the claim mentions."""
        return (self.row, *self.variants)

    def column_names(self) -> Sequence[str]:
        """Return the names of columns that the claim mentions."""
        return self.columns

    def _judge(self, table: PaperTable, tested: Measured, measured: Measured) -> Verdict:
        from scipy.stats import fisher_exact

        from harness.statistics import holm

        rivals = [(row, column) for row, column in table.grid if column in self.columns and row not in self.row_names()]
        usable = [place for place in rivals if place in tested and (self.row, place[1]) in tested]
        ps = []
        for place in usable:
            claimed, rival = tested[self.row, place[1]], tested[place]
            counts = [[claimed.successes, claimed.n - claimed.successes], [rival.successes, rival.n - rival.successes]]
            ps.append(float(fisher_exact(counts, alternative="greater").pvalue))
        higher = [place for place in usable if tested[place].value >= tested[self.row, place[1]].value]
        if higher:
            return Verdict(self.text, "does not survive", f"as high or higher: {_named(higher)}")
        missing = [place for place in rivals if place not in usable and not (place in measured and measured[place].is_empty)]
        if missing or not usable:
            return self._undecided(f"{len(missing)} of {len(rivals)} comparisons that are not measured")
        adjusted = holm(ps)
        unclear = [place for place, p in zip(usable, adjusted, strict=True) if p >= LEVEL]
        test = f"{len(usable)} comparisons, one-sided Fisher tests, largest Holm-adjusted p {_p(max(adjusted))}"
        if unclear:
            return self._undecided(f"more images for {_named(unclear)}", test)
        return Verdict(self.text, "survives", test)


Claim = Annotated[BestRowFollows | Higher | LessSpread | Equivalent | BeatsOthers, Field(discriminator="kind")]


def _pairs(tested: Measured, row: str, first: str, second: str) -> list[tuple[float, float]]:
    """Return the accuracies of two columns in one row, one pair per seed that both have."""
    if (row, first) not in tested or (row, second) not in tested:
        return []
    return list(zip(tested[row, first].values, tested[row, second].values, strict=False))


def _differences(table: PaperTable, tested: Measured, first: str, second: str) -> list[float]:
    return [high - low for row in table.rows for low, high in _pairs(tested, row.name, first, second)]


def _permuted_p(values: Array | Sequence[float], statistic: Callable[[Array, int], Array], kind: str) -> float:
    """Return the one-sided p-value of a permutation test, exact if there are few enough permutations."""
    from scipy.stats import permutation_test

    options = {"alternative": "greater", "n_resamples": RESAMPLES, "random_state": SEED, "vectorized": True}
    return float(permutation_test((values,), statistic, permutation_type=kind, **options).pvalue)


def _named(places: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{row} ({column})" for row, column in places)


def _signed(value: float, decimals: int = 1) -> str:
    return f"{value:+.{decimals}f}".replace("-", "−")


def _p(p: float) -> str:
    return f"= {p:.3f}" if p >= 0.0005 else "< 0.001"
