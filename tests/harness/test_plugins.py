"""Tests that an external package and a plug-in folder can add attacks, data sets, suites, tables and models."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness import attacks, datasets
from harness.cli.main import main
from harness.plugins import ATTACK_ADAPTERS, ATTACKS, CORRUPTIONS, DATASETS, EXECUTORS, FIGURES, SUITES, TABLES
from harness.runner.suite import get_suite
from model_zoo.errors import UsageError, UserError
from model_zoo.plugin_folders import VARIABLE

PLUGINS = Path(__file__).parent / "plugins"
MODEL = "cifar10-rn8w32-pruned-binary-k05-p01"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(PLUGINS / "folder", tmp_path / "plugins")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "plugins"))
    return tmp_path / "plugins"


def harness(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_every_registry_loads() -> None:
    for registered in (ATTACKS, ATTACK_ADAPTERS, CORRUPTIONS, DATASETS, EXECUTORS, FIGURES, SUITES, TABLES):
        assert dict(registered.items()).keys() == set(registered.names()) and registered.names()
        assert not any(entry.is_plugin for entry in registered.entries().values())


def test_a_folder_adds_an_attack_a_data_set_a_suite_and_a_table(folder: Path, tmp_path: Path) -> None:
    assert {"fgsm", "one-pixel-shift"} <= set(attacks.names())
    assert "inverted-sample" in datasets.names() and len(datasets.load("inverted-sample", n=4)) == 4
    options = ("--store", str(tmp_path / "results"), "--reports", str(tmp_path / "reports"))
    done = harness("run", "--suite", "mine", "--workers", "1", *options)
    assert done.exit_code == 0, done.output
    rows = json.loads(harness("report", "--suite", "mine", "--json", "--store", str(tmp_path / "results"), "--out", str(tmp_path)).stdout)
    assert {row["dataset"] for row in rows} == {"inverted-sample"} and {"fgsm", "one-pixel-shift"} <= set(rows[0])
    table = harness("report", "--suite", "mine", "--table", "short", "--store", str(tmp_path / "results"), "--out", str(tmp_path))
    assert "Only what matters" in table.output


def test_an_installed_package_adds_the_same_through_entry_points(tmp_path: Path) -> None:
    site = tmp_path / "site"
    shutil.copytree(PLUGINS / "package", site)
    shutil.copytree(PLUGINS / "folder", site / "robust_extras" / "data")
    code = (
        "import sys; from harness import attacks, datasets; from harness.plugins import ATTACK_ADAPTERS, SUITES, TABLES;"
        "from model_zoo.plugins import source_sha256;"
        "assert 'fgsm' in attacks.names() and attacks.get('fgsm').identity()['package'] == 'torchattacks';"
        "assert 'robust-extras 1.0' in ATTACK_ADAPTERS.origin('shift').origin;"
        "assert attacks.get('one-pixel-shift').identity()['adapter_source'] == source_sha256(ATTACK_ADAPTERS.origin('shift'));"
        "assert len(datasets.load('inverted-sample', n=2)) == 2 and SUITES.get('mine') and TABLES.get('short')"
    )
    environment = {"PYTHONPATH": f"{site}:{Path(__file__).parents[2]}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_option_plugins_names_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    listed = harness("--plugins", str(PLUGINS / "folder"), "ls", "attacks", "--json")
    assert {"fgsm", "one-pixel-shift"} <= {row["name"] for row in json.loads(listed.stdout)}
    monkeypatch.setenv(VARIABLE, "")
    missing = harness("--plugins", str(tmp_path / "none"), "ls", "attacks")
    assert missing.exit_code == 2 and "no plug-in folder" in missing.output


def test_suites_attacks_and_tables_may_be_paths(tmp_path: Path) -> None:
    attack = PLUGINS / "folder" / "attacks" / "fgsm.toml"
    done = harness(
        "run", "--model", MODEL, "--attack", str(attack), "--n", "4", "--store", str(tmp_path), "--reports", str(tmp_path), "--json"
    )
    assert done.exit_code == 0 and "fgsm" in json.loads(done.stdout)[0]
    assert get_suite(str(PLUGINS / "folder" / "suites" / "mine.toml")).name == "mine"
    table = harness(
        "report", "--table", str(PLUGINS / "folder" / "tables" / "short.toml"), "--store", str(tmp_path), "--out", str(tmp_path)
    )
    assert table.exit_code == 0 and "Only what matters" in table.output


def test_the_identity_contains_the_source_of_a_plug_in(folder: Path) -> None:
    before = attacks.get("one-pixel-shift").identity()
    assert "adapter_source" in before and "adapter_source" not in attacks.get("pgd").identity()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attack": "NoSuchAttack"}, "torchattacks has no attack 'NoSuchAttack'"),
        ({"attack": "attack"}, "torchattacks has no attack"),
        ({"arguments": {"stepz": 3}}, "stepz"),
        ({"radius": "epsilon"}, "epsilon"),
    ],
)
def test_invalid_torchattacks_classes_and_arguments_are_one_line_errors(folder: Path, change: dict[str, object], message: str) -> None:
    from dataclasses import replace

    import torch

    from harness.attacks import AttackCall
    from model_zoo.loading import load_model
    from model_zoo.threat import ThreatModel

    spec = attacks.get("fgsm")
    call = AttackCall(load_model(MODEL), torch.rand(1, 3, 32, 32), torch.zeros(1, dtype=torch.int64), ThreatModel.parse("Linf 8/255"), 0)
    with pytest.raises(UsageError, match=message):
        attacks.run(replace(spec, parameters={**spec.parameters, **change}), call)


def test_a_duplicate_suite_name_is_an_error_that_names_both_sources(folder: Path) -> None:
    shutil.copy(folder / "suites" / "mine.toml", folder / "suites" / "quick.toml")
    with pytest.raises(UserError, match=r"two entries are called suite 'quick': this project, and .*quick\.toml"):
        SUITES.names()
