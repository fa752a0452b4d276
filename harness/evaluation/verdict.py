"""The verdict on a model: ok, suspicious or masked, with the reasons, from its diagnostics and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from scipy.stats import binomtest

from harness.evaluation import thresholds
from harness.evaluation.diagnostics import Diagnostics
from harness.statistics import mcnemar

LEVELS = ("ok", "suspicious", "masked")


@dataclass(frozen=True)
class Reason:
    """One finding: the level it raises the verdict to, a fixed word, and a sentence with the figures."""

    level: str
    kind: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """`level` is the worst of the reasons', "ok" where there are none.

    `masked`: gradients do not lead where adversarial images are, so a white-box number says little. `suspicious`: one of the
    measurements is not what an honest model shows; the worst case over all attacks may still be right.
    """

    level: str
    reasons: tuple[Reason, ...]

    def __str__(self) -> str:
        return self.level if not self.reasons else f"{self.level}: " + "; ".join(reason.text for reason in self.reasons)


def judge(found: Diagnostics) -> Verdict:
    """Read a model's diagnostics against the constants of `thresholds`."""
    white = [one and other for one, other in zip(found.robust_ce, found.robust_margin, strict=True)]
    reasons = [
        *_black_box("Square", "square-helps", white, found.robust_square),
        *(_black_box("transfer from a twin", "transfer-helps", white, found.robust_transfer) if found.robust_transfer else []),
        *_noise(white, found.robust_noise),
        *_gradients(found),
        *_losses(found),
        *_sweep(found),
    ]
    if found.rising > thresholds.RISING.value:
        reasons.append(
            Reason("suspicious", "not-converged", f"the loss of {_percent(found.rising)} of robust images still rose at the last step")
        )
    level = max((reason.level for reason in reasons), key=LEVELS.index, default="ok")
    return Verdict(level, tuple(reasons))


def _black_box(what: str, kind: str, white: Sequence[bool], black: Sequence[bool]) -> list[Reason]:
    """Images that only the attack without gradients breaks; how many are too many is a binomial test against `BLACK_BOX_GAIN`."""
    gained = sum(robust and not other for robust, other in zip(white, black, strict=True))
    if not gained:
        return []
    p = binomtest(gained, len(white), thresholds.BLACK_BOX_GAIN.value, alternative="greater").pvalue
    if p >= thresholds.SIGNIFICANCE.value:
        return []
    return [Reason("masked", kind, f"{what} breaks {gained} of {len(white)} images that no gradient attack does (p = {p:.1g})")]


def _noise(white: Sequence[bool], noise: Sequence[bool]) -> list[Reason]:
    gained = sum(robust and not other for robust, other in zip(white, noise, strict=True))
    if gained <= thresholds.NOISE.value:
        return []
    return [Reason("suspicious", "noise-helps", f"random noise breaks {gained} of {len(white)} images that no gradient attack does")]


def _gradients(found: Diagnostics) -> list[Reason]:
    reasons = []
    none, ce = found.zero_gradient["margin"], found.zero_gradient["ce"]
    if none > thresholds.ZERO_GRADIENT.value:
        reasons.append(Reason("masked", "zero-gradient", f"{_percent(none)} of images have no gradient at all"))
    elif ce > thresholds.ZERO_GRADIENT_CE.value:
        text = f"{_percent(ce)} of images have no gradient of the cross-entropy (logits {found.median_gap:.3g} apart)"
        reasons.append(Reason("suspicious", "saturated", text))
    return reasons


def _losses(found: Diagnostics) -> list[Reason]:
    ce, margin = sum(found.robust_ce), sum(found.robust_margin)
    gap = (ce - margin) / found.n
    p = mcnemar(found.robust_ce, found.robust_margin)
    if gap <= thresholds.LOSS_GAP.value or p >= thresholds.SIGNIFICANCE.value:
        return []
    text = f"PGD on the cross-entropy leaves {_percent(gap)} more images than PGD on the margin (p = {p:.1g})"
    return [Reason("suspicious", "loss-gap", text)]


def _sweep(found: Diagnostics) -> list[Reason]:
    reasons = []
    radii = sorted(found.sweep, key=Fraction)
    for smaller, larger in pairwise(radii):
        before, after = found.sweep[smaller], found.sweep[larger]
        p = mcnemar(before, after)
        if sum(after) > sum(before) and p < thresholds.SIGNIFICANCE.value:
            text = f"at {larger} more images are robust ({sum(after)}) than at {smaller} ({sum(before)}; p = {p:.1g})"
            reasons.append(Reason("masked", "not-monotone", text))
    # Of few images one that is left says nothing: the share is tested, not compared.
    left = sum(found.sweep[radii[-1]])
    p = binomtest(left, found.n, thresholds.LARGE_RADIUS_ACCURACY.value, alternative="greater").pvalue
    if p < thresholds.SIGNIFICANCE.value:
        text = f"{_percent(left / found.n)} of images are left at {radii[-1]} (p = {p:.1g})"
        if found.near_constant:
            reasons.append(Reason("suspicious", "near-constant", f"{text}, most predictions being one class"))
        else:
            reasons.append(Reason("masked", "large-radius", f"{text}, where an attack must break nearly all"))
    return reasons


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"
