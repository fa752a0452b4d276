from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import pytest

from harness import attacks
from harness.attacks import AttackCall
from harness.attacks.spec import SPECS, load
from harness.plugins import ATTACK_ADAPTERS
from model_zoo.errors import DamagedFileError, UnknownNameError, UsageError
from model_zoo.threat import ThreatModel

NAMES = [
    pytest.param(name, marks=pytest.mark.needs_secmlt if ATTACK_ADAPTERS.get(attacks.get(name).adapter).extra else ())
    for name in attacks.names()
]
PROTOCOL = ["autoattack", "cw-l2", "cw-linf", "pgd", "pgd-10x50", "pgd-20"]


def test_protocol_attacks_exist():
    assert set(PROTOCOL) <= set(attacks.names())


@pytest.mark.parametrize("name", NAMES)
def test_shipped_specifications_are_valid(name):
    spec = attacks.get(name)
    ATTACK_ADAPTERS.get(spec.adapter).parse(spec.parameters)
    identity = spec.identity()
    assert json.loads(json.dumps(identity)) == identity
    assert (identity["package"] is None) == (identity["package_version"] is None)
    assert pickle.dumps(spec)  # specifications are sent to worker processes


def test_protocol_parameters():
    pgd = attacks.get("pgd").parameters
    assert (pgd["steps"], Fraction(pgd["step"]), pgd["restarts"], pgd["random_start"]) == (50, Fraction("2.5") / 50, 1, True)
    assert attacks.get("pgd-10x50").parameters == {**pgd, "restarts": 10}
    assert attacks.get("pgd-20").parameters == {**pgd, "steps": 20, "step": "1/4"}
    assert attacks.get("cw-linf").parameters == {**pgd, "confidence": 0.0}
    cw = attacks.get("cw-l2")
    assert (cw.norm, cw.bounded, cw.parameters["c"], cw.parameters["steps"], cw.parameters["learning_rate"]) == ("L2", False, 1, 100, 0.01)
    assert all(attacks.get(name).parameters["batch_size"] == 250 for name in PROTOCOL)


def test_identity_covers_everything_that_affects_the_result():
    spec = attacks.get("pgd")
    changed = [
        replace(spec, name="other"),
        replace(spec, adapter="cw-linf"),
        replace(spec, norm="L2"),
        replace(spec, parameters={**spec.parameters, "steps": 51}),
    ]
    identities = [json.dumps(each.identity(), sort_keys=True) for each in [spec, *changed]]
    assert len(set(identities)) == len(identities)
    assert spec.identity()["package_version"]
    assert replace(spec, title="for people").identity() == spec.identity()


def test_unknown_name_error_suggests_a_match_and_the_listing():
    with pytest.raises(UnknownNameError, match=r"'autoattack'.*harness ls attacks"):
        attacks.get("auto-attack")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "PGD', 'stepz = 3\ntitle = "PGD', "stepz"),
        ('adapter = "torchattacks-pgd"\n', "", "'adapter'"),
        ("minimum_classes = 2", 'minimum_classes = "2"', "minimum_classes of type int"),
        ('norm = "Linf"', 'norm = "L7"', "L7"),
        ('name = "pgd"', 'name = "gdp"', "gdp"),
        ("[parameters]", "[parameters", "TOML"),
    ],
)
def test_a_damaged_specification_is_an_error(tmp_path, old, new, message):
    text = (SPECS / "pgd.toml").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "pgd.toml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(DamagedFileError, match=r"pgd\.toml") as error:
        load(path)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stepz": 3}, "no parameter 'stepz'"),
        ({"steps": None}, "needs the parameter 'steps'"),
        ({"steps": True}, "steps = True.*valid integer"),
        ({"steps": 0}, "greater than or equal to 1"),
        ({"step": 0.05}, "exact fraction"),
        ({"step": "1/0"}, "exact fraction"),
        ({"step": "-1/20"}, "exact fraction"),
        ({"random_start": 1}, "valid boolean"),
        ({"confidence": -1.0}, "greater than or equal to 0"),
        ({"confidence": float("nan")}, "finite"),
    ],
)
def test_invalid_parameters_are_errors(victim, linf, change, message):
    spec = attacks.get("cw-linf")
    parameters = {key: value for key, value in {**copy.copy(spec.parameters), **change}.items() if value is not None}
    with pytest.raises(UsageError, match=message):
        attacks.run(replace(spec, parameters=parameters), AttackCall(victim.model, *victim.first(1), linf, 0))


@pytest.mark.parametrize("adapter", ["nothing-like-it", "spec", "../evil", "os.path"])
def test_unknown_adapters_are_errors(victim, linf, adapter):
    with pytest.raises(UsageError, match="adapter"):
        attacks.run(replace(attacks.get("pgd"), adapter=adapter), AttackCall(victim.model, *victim.first(1), linf, 0))


def test_a_wrong_norm_or_too_few_classes_stop_the_attack_before_the_first_pass(victim, linf):
    def explode(images):
        raise AssertionError("the model was called")

    with pytest.raises(UsageError, match="Linf"):
        attacks.run(attacks.get("pgd"), AttackCall(explode, *victim.first(1), ThreatModel("L2", Fraction(1, 2)), 0))
    with pytest.raises(UsageError, match="L2"):
        attacks.run(attacks.get("cw-l2"), AttackCall(explode, *victim.first(1), linf, 0))
    eleven_classes = replace(attacks.get("pgd"), minimum_classes=11)
    with pytest.raises(UsageError, match="at least 11 classes, but the model has 10"):
        attacks.run(eleven_classes, AttackCall(explode, *victim.first(1), linf, 0), classes=10)
    with pytest.raises(UsageError, match="at least 11 classes, but the model has 10"):
        attacks.run(eleven_classes, AttackCall(victim.model, *victim.first(1), linf, 0))


def test_reading_specifications_imports_nothing_heavy():
    code = (
        "import sys; from harness import attacks; [attacks.get(name) for name in attacks.names()];"
        "heavy = {'torch', 'numpy', 'torchattacks', 'pyautoattack'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_attack_whose_package_is_missing_names_the_extra(victim, linf, monkeypatch):
    spec = attacks.get("fmn-linf")
    adapter = replace(ATTACK_ADAPTERS.get(spec.adapter), package="not-installed-anywhere")
    monkeypatch.setattr(type(ATTACK_ADAPTERS), "get", lambda registry, name: adapter)
    for use in (spec.identity, lambda: attacks.run(spec, AttackCall(victim.model, *victim.first(1), linf, 0))):
        with pytest.raises(UsageError, match=r"\[minimum-norm\]"):
            use()
