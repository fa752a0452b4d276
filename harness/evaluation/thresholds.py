"""The numbers behind a verdict, each with its reason. They are printed with it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Threshold:
    """A named number and why it is what it is."""

    value: float
    reason: str


SIGNIFICANCE = Threshold(0.01, "level of every exact test here: one false alarm in a hundred honest models")
BLACK_BOX_GAIN = Threshold(
    0.002,
    "share of images that a black-box attack may win over the white-box ones: the 0.2 points of AutoAttack's own check, here the null "
    "hypothesis of a binomial test, so that one image of a small set is no alarm",
)
LOSS_GAP = Threshold(
    0.10,
    "robust accuracy that PGD on the cross-entropy may keep over PGD on the margin: on 250 images it keeps 1 to 6 points on the five "
    "models of the quick suite, all of them honest",
)
ZERO_GRADIENT = Threshold(0.05, "share of images without any gradient of the margin: a network of ReLUs has next to none")
ZERO_GRADIENT_CE = Threshold(0.05, "share of images without any gradient of the cross-entropy: from here PGD on it prints a wrong number")
LARGE_RADIUS = Threshold(64 / 255, "a quarter of the pixel range hides the image: whoever is still right was not attacked")
LARGE_RADIUS_ACCURACY = Threshold(
    0.02,
    "share of images that may be left at the large radius: the null hypothesis of a binomial test, so that one image of 31 is no alarm",
)
RISING = Threshold(0.10, "share of robust images whose loss still rises when the attack ends: more steps would break more")
NOISE = Threshold(0.0, "images that random noise breaks and the gradient attacks do not: none is expected, noise being the weaker attack")


def table() -> list[dict[str, str | float]]:
    """Every threshold: `name, value, reason`."""
    found = {name: item for name, item in globals().items() if isinstance(item, Threshold)}
    return [{"name": name.lower().replace("_", "-"), "value": item.value, "reason": item.reason} for name, item in found.items()]
