"""Tests of threat models: radii are exact fractions, and 0.031 differs from 8/255."""

from fractions import Fraction

import pytest

from model_zoo.errors import UsageError
from model_zoo.threat import ThreatModel, parse_radius, radius_text, threats_for


def test_threat_models_round_trip_as_text() -> None:
    for text in ("Linf 8/255", "Linf 64/255", "Linf 0/255", "L2 1/2", "Linf 31/1000"):
        assert str(ThreatModel.parse(text)) == text
    assert ThreatModel.parse("Linf:8/255") == ThreatModel("Linf", Fraction(8, 255))
    assert radius_text(Fraction(1, 51)) == "5/255"


def test_a_decimal_close_to_a_fraction_is_a_different_radius() -> None:
    assert parse_radius("0.031") != parse_radius("8/255")
    assert parse_radius("0.031") == Fraction(31, 1000)


@pytest.mark.parametrize("text", ["Linf", "Linf eight", "L7 1/2", "Linf 1/0", "Linf -1/255"])
def test_an_invalid_threat_model_is_an_error(text: str) -> None:
    with pytest.raises(UsageError):
        ThreatModel.parse(text)


def test_a_radius_in_byte_units_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match=r"8/255\?"):
        ThreatModel.parse("Linf 8")
    with pytest.raises(UsageError, match="larger than the range of pixels"):
        ThreatModel.parse("Linf 256/255")
    assert ThreatModel.parse("Linf 1").epsilon == 1.0 and ThreatModel.parse("L2 8").epsilon == 8.0


def test_radii_without_norm_require_a_single_norm() -> None:
    assert [str(threat) for threat in threats_for(["Linf", "Linf"], ["8/255", "4/255"])] == ["Linf 8/255", "Linf 4/255"]
    assert [str(threat) for threat in threats_for(["Linf", "L2"], ["Linf 8/255", "L2:1/2"])] == ["Linf 8/255", "L2 1/2"]
    assert threats_for(["Linf", "L2"], []) == []
    with pytest.raises(UsageError, match=r"state the norm .* 'Linf 8/255'"):
        threats_for(["Linf", "L2"], ["8/255"])
