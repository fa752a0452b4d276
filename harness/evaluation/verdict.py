"""Verdict on a model (ok, suspicious or masked) with its reasons, from the model's diagnostics alone.

Each check is an exact binomial test of a share of images against that of honest models (`thresholds`). Its level is the family-wise error
divided by the number of checks and of models (Bonferroni), so that all models of a registry can be judged together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

from scipy.stats import binomtest

from harness.evaluation import thresholds
from harness.evaluation.diagnostics import BROKEN, ROBUST, WHITE_BOX, Diagnostics
from harness.evaluation.thresholds import Threshold

LEVELS = ("ok", "suspicious", "masked")


@dataclass(frozen=True)
class Reason:
    """One finding: the level to which it raises the verdict, a fixed keyword, and a sentence with the figures."""

    level: str
    kind: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """Level with the reasons for it.

    `level` is the worst level among the reasons, "ok" if there are none; `untested` names the checks that could not be made. "masked":
    gradients do not lead to the adversarial images, so a white-box accuracy says little. "suspicious": a measurement differs from those
    of honest models, but the worst case over all attacks may still be right.
    """

    level: str
    reasons: tuple[Reason, ...]
    untested: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = self.level if not self.reasons else f"{self.level}: " + "; ".join(reason.text for reason in self.reasons)
        return text + "".join(f"; {name}: not tested" for name in self.untested)


@dataclass(frozen=True)
class Check:
    """One test of the diagnostics.

    Attributes
    ----------
    kind, level : str
        Keyword for the finding, and the level to which it raises the verdict.
    share : Threshold
        Largest share of images that speaks against an honest model.
    text : str
        What those images have in common, as it follows their number in a sentence.
    images : callable
        Maps diagnostics to one character per image: "1" if it speaks against the model, "0" if not, "-" if it was not tested. Returns
        None if the check cannot be made.
    """

    kind: str
    level: str
    share: Threshold
    text: str
    images: Callable[[Diagnostics], str | None]

    def count(self, measured: Diagnostics) -> tuple[int, int]:
        """Return the number of images that speak against the model, and the number that were tested."""
        images = self.images(measured) or ""
        return images.count("1"), images.count("1") + images.count("0")


def _probe_gain(probe: str) -> Callable[[Diagnostics], str | None]:
    """Return a function that marks the images that a probe breaks and no white-box attack does."""

    def images(measured: Diagnostics) -> str | None:
        probe_marks = measured.robust.get(probe)
        return (
            None
            if probe_marks is None
            else _compare_marks(
                lambda white_box_mark, probe_mark: white_box_mark == ROBUST and probe_mark == BROKEN, _white_box(measured), probe_marks
            )
        )

    return images


def _white_box(measured: Diagnostics) -> str:
    return "".join("-" if "-" in marks else min(marks) for marks in zip(*(measured.robust[name] for name in WHITE_BOX), strict=True))


def _loss_gap(measured: Diagnostics) -> str:
    return _compare_marks(lambda ce, margin: ce == ROBUST and margin == BROKEN, measured.robust["ce"], measured.robust["margin"])


def _not_monotone(measured: Diagnostics) -> str:
    """Mark images that are robust at a radius and broken at a smaller one."""
    sweep = [measured.sweep[radius] for radius in sorted(measured.sweep, key=Fraction)]
    return "".join("-" if "-" in marks else "01"[f"{BROKEN}{ROBUST}" in "".join(marks)] for marks in zip(*sweep, strict=True))


def _large_radius(measured: Diagnostics) -> str:
    return measured.sweep[max(measured.sweep, key=Fraction)]


def _compare_marks(speaks_against: Callable[[str, str], bool], first: str, second: str) -> str:
    return "".join(
        "-" if "-" in (first_mark, second_mark) else "01"[speaks_against(first_mark, second_mark)]
        for first_mark, second_mark in zip(first, second, strict=True)
    )


BY_NO_GRADIENT = "that no gradient attack breaks"
CHECKS = (
    Check("square-helps", "masked", thresholds.SQUARE_GAIN, f"are broken by Square {BY_NO_GRADIENT}", _probe_gain("square")),
    Check(
        "transfer-helps",
        "masked",
        thresholds.TRANSFER_GAIN,
        f"are broken by examples made on other models {BY_NO_GRADIENT}",
        _probe_gain("transfer"),
    ),
    Check(
        "decisions-help",
        "masked",
        thresholds.DECISION_GAIN,
        "that no other probe breaks are broken by RayS, which sees only decisions",
        _probe_gain("decision"),
    ),
    Check(
        "descent-helps",
        "masked",
        thresholds.DESCENT_GAIN,
        "are broken on the way down the margin and not on its way up",
        _probe_gain("descent"),
    ),
    Check("noise-helps", "suspicious", thresholds.NOISE_GAIN, f"are broken by random noise {BY_NO_GRADIENT}", _probe_gain("noise")),
    Check("zero-gradient", "masked", thresholds.ZERO_GRADIENT, "have no gradient at all", lambda measured: measured.no_gradient["margin"]),
    Check(
        "saturated",
        "suspicious",
        thresholds.ZERO_GRADIENT_CE,
        "have no gradient of the cross-entropy",
        lambda measured: measured.no_gradient["ce"],
    ),
    Check("loss-gap", "suspicious", thresholds.LOSS_GAP, "withstand PGD on the cross-entropy and not PGD on the margin", _loss_gap),
    Check("not-monotone", "masked", thresholds.NOT_MONOTONE, "are robust at a radius and broken at a smaller one", _not_monotone),
    Check(
        "large-radius",
        "masked",
        thresholds.LARGE_RADIUS_ACCURACY,
        "remain robust at the largest radius, where an attack must break nearly all",
        _large_radius,
    ),
    Check(
        "not-converged",
        "suspicious",
        thresholds.RISING,
        "that are robust have a loss that still rose at the last step",
        lambda measured: measured.rising,
    ),
)
# Largest probability that one check raises a false alarm on one honest model.
SIGNIFICANCE = thresholds.FAMILY_ERROR.value / (thresholds.MODELS.value * len(CHECKS))


def judge(measured: Diagnostics) -> Verdict:
    """Return the verdict on a model from its diagnostics and the constants of `thresholds`."""
    reasons = [reason for check in CHECKS if (reason := _find_reason(check, measured)) is not None]
    kinds = {reason.kind for reason in reasons}
    # Without a gradient of the margin there is none of the cross-entropy either.
    reasons = [reason for reason in reasons if reason.kind != "saturated" or "zero-gradient" not in kinds]
    level = max((reason.level for reason in reasons), key=LEVELS.index, default="ok")
    untested = () if "transfer" in measured.robust else ("transfer",)
    return Verdict(level, tuple(reasons), untested)


def p_value(exceptions: int, images: int, share: float) -> float:
    """Return the p-value of the exact test that at most `share` of `images` are `exceptions`; 1.0 without images."""
    return float(binomtest(exceptions, images, share, alternative="greater").pvalue) if images else 1.0


def _find_reason(check: Check, measured: Diagnostics) -> Reason | None:
    against, tested = check.count(measured)
    p = p_value(against, tested, check.share.value)
    if p >= SIGNIFICANCE:
        return None
    text = f"{against} of {tested} images {check.text} (p = {p:.1g}; honest models: at most {100 * check.share.value:g} %)"
    reason = Reason(check.level, check.kind, text)
    if check.kind == "large-radius" and measured.near_constant:
        return replace(reason, level="suspicious", kind="near-constant", text=f"{text}, most predictions being one class")
    return reason
