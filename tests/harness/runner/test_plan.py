"""Tests of plans: suites are expanded to units, and invalid requests are errors before anything runs."""

from pathlib import Path

import pytest
from PIL import Image

from harness.runner.plan import plan_request, plan_suite
from harness.runner.suite import Suite, get_suite, read_suite, suite_names
from model_zoo.errors import DamagedFileError, UnknownNameError, UserError
from model_zoo.registry import model_ids
from model_zoo.threat import ThreatModel

MODEL = "cifar10-rn8w32-pruned-binary-k05-p01"


def suite(**change: object) -> Suite:
    evaluation = {"dataset": "cifar10-sample", "attacks": ["pgd", "cw-l2"], "n": 300}
    return Suite.model_validate({"name": "test", "title": "test", "models": [MODEL], "evaluation": [{**evaluation, **change}]})


def test_blocks_and_default_radii_follow_the_protocol() -> None:
    units = plan_suite(suite()).units
    assert [(unit.attack.name, len(unit.block), str(unit.threat)) for unit in units] == [
        ("pgd", 250, "Linf 8/255"),
        ("pgd", 50, "Linf 8/255"),
        ("cw-l2", 250, "L2 1/2"),
        ("cw-l2", 50, "L2 1/2"),
    ]


def test_n_and_all_images_override_the_suite() -> None:
    assert sum(len(unit.block) for unit in plan_suite(suite(attacks=["pgd"]), n=7).units) == 7
    assert sum(len(unit.block) for unit in plan_suite(suite(attacks=["pgd"]), all_images=True).units) == 1000


def test_the_quick_suite_runs_five_models_on_the_same_images() -> None:
    units = plan_suite(get_suite("quick")).units
    assert len({unit.record.id for unit in units}) == 5
    assert len({unit.block.sha256 for unit in units}) == 1
    assert {unit.attack.name for unit in units} == {"pgd", "cw-linf", "autoattack", "cw-l2"}


def test_the_full_suite_covers_every_registered_model() -> None:
    plan = plan_suite(get_suite("full"), n=2)
    assert {unit.model for unit in plan.units} == set(model_ids())
    assert any("imagenet100" in line for line in plan.omitted)


def test_every_shipped_suite_can_be_read() -> None:
    assert {"smoke", "quick", "full", "paper"} <= set(suite_names())
    for name in suite_names():
        assert get_suite(name).name == name


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("model", {"models": ["cifar10-rn8w32-pruned-binary-k05-p1"]}),
        ("attack", {"attack_names": ["autoatack"]}),
        ("dataset", {"dataset": "cifar10-sampel"}),
    ],
)
def test_unknown_names_are_errors_with_suggestions(kind: str, change: dict[str, object]) -> None:
    request = {"models": [MODEL], "attack_names": ["pgd"], "dataset": "cifar10-sample", "n": 2, **change}
    with pytest.raises(UnknownNameError, match=f"unknown {kind}.*Did you mean"):
        plan_request(**request)  # type: ignore[arg-type]


def test_a_model_for_other_classes_is_an_error() -> None:
    with pytest.raises(UserError, match="not for cifar100-sample"):
        plan_request([MODEL], ["pgd"], "cifar100-sample", 2)


def test_unknown_suites_and_invalid_fields_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="quick"):
        get_suite("quik")
    path = tmp_path / "mine.toml"
    path.write_text('title = "x"\nmodels = "all"\nradius = 3\n[[evaluation]]\ndataset = "cifar10-sample"\nattacks = ["pgd"]\n')
    with pytest.raises(DamagedFileError, match="radius"):
        read_suite(path)


def test_transfer_uses_other_models_and_is_an_error_without_any(tmp_path: Path) -> None:
    (unit,) = plan_request(["cifar10-rn8s29-dense"], ["transfer"], "cifar10-sample", 4).units
    parameters = unit.identity["attack"]["parameters"]
    assert len(parameters["sources"]) == len(parameters["weights"]) == 3 and "cifar10-rn8s29-dense" not in parameters["sources"]
    for label in range(10):
        (tmp_path / "pictures" / str(label)).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "pictures" / str(label) / "0.png")
    with pytest.raises(UserError, match="no shipped models of folder:pictures"):
        plan_request(["cifar10-rn8s29-dense"], ["transfer"], f"folder:{tmp_path / 'pictures'}", threats=[ThreatModel.parse("Linf 8/255")])
