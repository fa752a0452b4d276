"""Thresholds of a verdict, each with the reason that is printed with it.

Each check of a verdict counts the images that speak against a model. Honest models have some of these too, at most the share in this module
(measured on the shipped models, `benchmarks/verdict_power.py`); a binomial test decides whether there are more.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Threshold:
    """Value and the reason for it."""

    value: float
    reason: str


FAMILY_ERROR = Threshold(0.05, "probability that any of the honest models is accused by any check, all of them taken together")
MODELS = Threshold(100, "honest models that this holds for, more than the registry has")
SQUARE_GAIN = Threshold(0.02, "share of images that Square breaks and PGD on two losses does not: honest models have up to 0.9 %")
TRANSFER_GAIN = Threshold(0.02, "share of images that examples made on other models break and PGD does not: up to 0.4 %")
DECISION_GAIN = Threshold(0.02, "share of all other probes' survivors that RayS breaks, which sees only decisions: one of 64 at most")
DESCENT_GAIN = Threshold(0.01, "share of images that PGD breaks on its way down the margin and not on its way up")
NOISE_GAIN = Threshold(0.005, "share of images that random noise breaks and PGD does not, noise being the weaker attack")
LOSS_GAP = Threshold(0.20, "share of images that PGD on the margin breaks and PGD on the cross-entropy does not: up to 13.6 %")
ZERO_GRADIENT = Threshold(0.05, "share of images without any gradient of the margin: a network of ReLUs has almost none")
ZERO_GRADIENT_CE = Threshold(0.05, "share of images without any gradient of the cross-entropy: above it, PGD on it is misleading")
NOT_MONOTONE = Threshold(0.02, "share of images robust at one radius and broken at a smaller one")
LARGE_RADIUS = Threshold(64 / 255, "a quarter of the pixel range hides the image: a model that is still right was not attacked properly")
LARGE_RADIUS_ACCURACY = Threshold(0.02, "share of images left at the large radius")
RISING = Threshold(0.10, "share of robust images whose loss still rises when the attack ends: more steps would break more; up to 0.8 %")
# For marks of a single unit, not for a diagnosis: a mark is read together with the unit's number and is not corrected for multiple units.
UNIT_SIGNIFICANCE = Threshold(0.01, "level of the exact test behind a unit's mark `black-box-better`")
UNIT_BLACK_BOX_GAIN = Threshold(
    0.002,
    "share of images that Square may win over the white-box components of AutoAttack: the 0.2 points of AutoAttack's own check, as the "
    "null hypothesis of a binomial test, so that one image of a small set raises no alarm",
)


def table() -> list[dict[str, str | float]]:
    """Return every threshold as `name, value, reason`."""
    thresholds = {name: threshold for name, threshold in globals().items() if isinstance(threshold, Threshold)}
    return [
        {"name": name.lower().replace("_", "-"), "value": threshold.value, "reason": threshold.reason}
        for name, threshold in thresholds.items()
    ]
