"""Radii are exact fractions; 0.031 and 8/255 stay different."""

from fractions import Fraction

import pytest

from model_zoo.errors import UsageError
from model_zoo.threat import ThreatModel, parse_radius, radius_text


def test_text_and_back() -> None:
    for text in ("Linf 8/255", "Linf 64/255", "Linf 0/255", "L2 1/2", "Linf 31/1000"):
        assert str(ThreatModel.parse(text)) == text
    assert ThreatModel.parse("Linf:8/255") == ThreatModel("Linf", Fraction(8, 255))
    assert radius_text(Fraction(1, 51)) == "5/255"


def test_a_decimal_near_a_fraction_is_another_radius() -> None:
    assert parse_radius("0.031") != parse_radius("8/255")
    assert parse_radius("0.031") == Fraction(31, 1000)


@pytest.mark.parametrize("text", ["Linf", "Linf eight", "L7 1/2", "Linf 1/0", "Linf -1/255"])
def test_what_is_not_a_threat_model_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        ThreatModel.parse(text)
