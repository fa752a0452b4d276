"""Tests of registries: origins of entries, collisions, suggestions and broken plug-ins."""

import os
import sys
from pathlib import Path

import pytest

from model_zoo import registry
from model_zoo.errors import UnknownNameError, UsageError, UserError
from model_zoo.plugin_folders import VARIABLE, add_plugin_folder, plugin_folders
from model_zoo.plugins import ARCHITECTURES, FAMILIES, FORMATS, METHODS, RECIPES, source_sha256

FAMILY = """
from model_zoo.families import Family
from torch import nn

FAMILY = Family(name="{name}", kind="dense", method=None, convolution=lambda options: nn.Conv2d, affine=True)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_every_registry_loads() -> None:
    for registered in (FAMILIES, METHODS, ARCHITECTURES, FORMATS, RECIPES):
        assert dict(registered.items()).keys() == set(registered.names()) and registered.names()
        assert not any(entry.is_plugin for entry in registered.entries().values())


def test_a_file_in_a_plug_in_folder_is_an_entry_with_its_origin(folder: Path) -> None:
    path = write(folder / "families" / "mine.py", FAMILY.format(name="mine"))
    assert FAMILIES.get("mine").name == "mine" and FAMILIES.origin("mine").origin == str(path)
    assert source_sha256(FAMILIES.origin("mine")) is not None and source_sha256(FAMILIES.origin("dense")) is None


def test_folders_are_read_again_after_a_change(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "families" / "mine.py", FAMILY.format(name="mine"))
    assert "mine" in FAMILIES.names()
    monkeypatch.delenv(VARIABLE)
    assert "mine" not in FAMILIES.names()


def test_duplicate_names_are_an_error_that_names_both_sources(folder: Path) -> None:
    path = write(folder / "families" / "again.py", FAMILY.format(name="dense"))
    with pytest.raises(UserError, match=f"'dense': this project, and {path}"):
        FAMILIES.get("dense")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise RuntimeError('no licence')", "cannot be loaded: RuntimeError: no licence"),
        ("x = 1", "has no FAMILY"),
        ("FAMILY = 3", "of type Family expected, found int"),
        ("def", "SyntaxError"),
    ],
)
def test_a_broken_plug_in_is_a_one_line_error_that_names_its_file(folder: Path, text: str, message: str) -> None:
    write(folder / "families" / "broken.py", text)
    with pytest.raises(UserError, match=message) as raised:
        dict(FAMILIES.items())
    assert "broken.py" in str(raised.value) and "\n" not in str(raised.value)


def test_an_unknown_name_error_has_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match=r"'pruned-binary'.*harness ls families"):
        FAMILIES.get("pruned-binry")


def test_entries_can_be_temporary_and_invalid_ones_are_errors() -> None:
    family = FAMILIES.get("dense")
    with FAMILIES.temporarily("mine", family):
        assert FAMILIES.get("mine") is family
        with pytest.raises(UsageError, match="is already registered"):
            FAMILIES.add("mine", family)
    assert "mine" not in FAMILIES.names()
    with pytest.raises(UsageError, match="of type Family expected"):
        FAMILIES.add("number", 3)  # type: ignore[arg-type]


def test_a_missing_folder_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none"))
    with pytest.raises(UsageError, match="no plug-in folder"):
        plugin_folders()


def test_an_added_folder_is_passed_to_other_processes_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    add_plugin_folder(tmp_path)
    add_plugin_folder(tmp_path)
    assert os.environ[VARIABLE] == str(tmp_path) and plugin_folders() == (tmp_path.resolve(),)


def test_models_of_a_plug_in_folder_are_registered(folder: Path) -> None:
    shipped = registry.record_path("cifar10-rn8s29-dense")
    record = shipped.read_text().replace('id = "cifar10-rn8s29-dense"', 'id = "mine"')
    write(folder / "models" / "mine.toml", record)
    checkpoint = registry.checkpoint_path("cifar10-rn8s29-dense")
    (folder / "models" / checkpoint.name).write_bytes(checkpoint.read_bytes())
    assert "mine" in registry.model_ids() and registry.checkpoint_path("mine").parent == folder / "models"
    write(folder / "models" / "cifar10-rn8s29-dense.toml", shipped.read_text())
    with pytest.raises(UserError, match="two models are called"):
        registry.model_ids()


def test_recipes_of_a_plug_in_folder_are_available_by_name(folder: Path) -> None:
    name = RECIPES.names()[0]
    source = RECIPES.origin(name).file
    assert source is not None
    write(folder / "recipes" / "mine.toml", source.read_text().replace(f'id = "{name}"', 'id = "mine"'))
    assert RECIPES.get("mine").id == "mine"
    assert RECIPES.get(str(folder / "recipes" / "mine.toml")).id == "mine"
    with pytest.raises(UsageError, match="no recipe file"):
        RECIPES.get("absent.toml")


def test_registries_import_only_the_standard_library() -> None:
    import subprocess

    code = "import sys, model_zoo.plugins; sys.exit(bool({'torch', 'numpy', 'pydantic', 'click'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
