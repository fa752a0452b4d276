"""Tests of a unit's identity: which changes alter it and which do not."""

import pytest

from harness.runner.identity import canonical_json, unit_id, unit_seed
from harness.runner.plan import plan_request
from model_zoo.threat import ThreatModel

MODEL = "cifar10-rn8w32-pruned-binary-k05-p01"


def test_canonical_json_is_unique() -> None:
    assert canonical_json({"b": [1, "8/255"], "a": {"d": None, "c": True}}) == '{"a":{"c":true,"d":null},"b":[1,"8/255"]}'
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": float("nan")})


def test_the_seed_is_the_first_eight_bytes_of_the_identity() -> None:
    assert unit_seed("00000000000000ff" + "0" * 48) == 255
    assert unit_seed(unit_id({"a": 1})) < 2**64


def test_equal_requests_have_equal_identities_and_any_change_alters_them() -> None:
    def id_of_request(**change: object) -> str:
        request = {"models": [MODEL], "attack_names": ["pgd"], "dataset": "cifar10-sample", "n": 4, **change}
        (unit,) = plan_request(**request).units  # type: ignore[arg-type]
        return unit.id

    base = id_of_request()
    assert id_of_request() == base
    changed = [
        id_of_request(n=5),
        id_of_request(seed=1),
        id_of_request(attack_names=["cw-linf"]),
        id_of_request(threats=[ThreatModel.parse("Linf 4/255")]),
        id_of_request(models=["cifar10-rn8w32-pruned-binary-k20-p01"]),
    ]
    assert len({base, *changed}) == 6


def test_the_identity_contains_the_radius_as_an_exact_fraction() -> None:
    (unit,) = plan_request([MODEL], ["pgd"], "cifar10-sample", 4).units
    assert unit.identity["threat"] == {"norm": "Linf", "radius": "8/255"}
    assert unit.identity["protocol"] == 1
    assert unit.identity["attack"]["package_version"]
