"""Threat models: a norm and a radius, which is an exact fraction in units of the [0, 1] pixel range, or corruptions of a severity."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

from model_zoo.errors import UsageError

NormName = Literal["Linf", "L2", "L1"]
NORMS: tuple[str, ...] = get_args(NormName)
# What stands for a norm if nobody attacks and images are corrupted; the radius is then the severity. RobustBench's name for it.
CORRUPTED = "corruptions"
SEVERITIES = (1, 2, 3, 4, 5)
_FRACTION = re.compile(r"[+-]?(\d+/\d+|(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?)", re.ASCII)


@dataclass(frozen=True)
class ThreatModel:
    """Set of all perturbations whose `norm` ("Linf", "L2" or "L1") is at most `radius`, inside the [0, 1] box.

    If the norm is "corruptions", no attacker chooses a perturbation: each image has one, that of a corruption whose severity is `radius`.

    Raises a UsageError for another norm, a negative radius, an Linf radius above 1, or a severity that is not a whole number from 1 to 5.

    >>> str(ThreatModel.parse("Linf 8/255"))
    'Linf 8/255'
    >>> ThreatModel("Linf", Fraction(8, 255)).epsilon
    0.03137254901960784
    """

    norm: str
    radius: Fraction

    def __post_init__(self) -> None:
        if self.norm == CORRUPTED:
            if self.radius not in SEVERITIES:
                raise UsageError(f"a severity is a whole number from 1 to {len(SEVERITIES)}, not {self.radius}")
            return
        if self.norm not in NORMS:
            raise UsageError(f"unknown norm {self.norm!r}: a threat model needs one of {', '.join(NORMS)} and a radius such as 8/255")
        if self.radius < 0:
            raise UsageError(f"a radius must not be negative, but is {self.radius}")
        if self.norm == "Linf" and self.radius > 1:
            hint = f"; {self.radius}/255?" if self.radius.denominator == 1 and self.radius <= 255 else ""
            raise UsageError(f"Linf radius {self.radius} is larger than the range of pixels, [0, 1]{hint}")

    @property
    def epsilon(self) -> float:
        """The radius as a float64."""
        return float(self.radius)

    @property
    def size_text(self) -> str:
        """The radius as `radius_text` writes it, "8/255", or the severity, "3"."""
        return str(self.radius) if self.norm == CORRUPTED else radius_text(self.radius)

    @classmethod
    def parse(cls, text: str) -> ThreatModel:
        """Parse "Linf 8/255" or "L2 1/2" (a colon may replace the space); raises a UsageError for anything else."""
        norm, _, radius = text.replace(":", " ").partition(" ")
        return cls(norm, parse_radius(radius))

    def __str__(self) -> str:
        return f"{self.norm} {self.size_text}"


def threats_for(norms: Iterable[str], radii: Iterable[str]) -> list[ThreatModel]:
    """Return the distinct threat models of all `radii`, each written "8/255" or "Linf 8/255".

    A radius without a norm takes the norm of `norms`; raises a UsageError if `norms` contains several.
    """
    distinct_norms = list(dict.fromkeys(norms))
    threats = []
    for radius in radii:
        if radius.replace(":", " ").split(" ")[0] in NORMS:
            threats.append(ThreatModel.parse(radius))
        elif len(distinct_norms) > 1:
            raise UsageError(
                f"the attacks are for {' and '.join(distinct_norms)}: state the norm of the radius, '{distinct_norms[0]} {radius}'"
            )
        else:
            threats += [ThreatModel(norm, parse_radius(radius)) for norm in distinct_norms]
    return list(dict.fromkeys(threats))


def parse_radius(text: str) -> Fraction:
    """Parse a radius written as a fraction ("8/255") or a decimal ("0.031"), both exactly; raises a UsageError for other text."""
    try:
        return exact_fraction(text)
    except ValueError:
        raise UsageError(f"not a radius: {text[:40]!r} (write an exact fraction such as 8/255)") from None


def exact_fraction(text: str) -> Fraction:
    """Return a fraction ("8/255") or decimal ("0.031", "1e-3") exactly.

    Raises a ValueError for any other text, and for numbers with more than 40 characters or a power of ten beyond 99, whose exact values
    could fill the memory.
    """
    text = text.strip()
    if not _FRACTION.fullmatch(text) or len(text) > 40:
        raise ValueError("not an exact fraction such as 8/255")
    try:
        return Fraction(text)
    except ZeroDivisionError:
        raise ValueError("a fraction with denominator 0") from None


def radius_text(radius: Fraction) -> str:
    """Return a radius as text: with denominator 255 if it is a multiple of 1/255 ("8/255", "64/255", "0/255"), else in lowest terms."""
    over_255 = radius * 255
    return f"{over_255.numerator}/255" if over_255.denominator == 1 else str(radius)
