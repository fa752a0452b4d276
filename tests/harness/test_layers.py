"""Tests that imports point in one direction: evaluation does not import reporting, and neither imports the commands."""

import ast
from pathlib import Path

import pytest

import harness
import model_zoo

HARNESS, MODEL_ZOO = Path(harness.__file__).parent, Path(model_zoo.__file__).parent
ABOVE = {
    "selftest": ("reporting", "api", "cli"),
    "evaluation": ("reporting", "runner", "api", "cli"),
    "runner": ("reporting", "api", "cli"),
}


def imports(folder: Path) -> set[str]:
    """Return the names of all modules that the files of a folder import, at the top level or inside functions."""
    nodes = [node for path in folder.rglob("*.py") for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    from_names = {f"{node.module}.{alias.name}" for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    return from_names | {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}


@pytest.mark.parametrize("package", ABOVE)
def test_a_package_imports_none_above_it(package: str) -> None:
    above = tuple(f"harness.{name}" for name in ABOVE[package])
    assert not [name for name in imports(HARNESS / package) if name.startswith(above)]


def test_model_zoo_does_not_import_harness() -> None:
    assert not [name for name in imports(MODEL_ZOO) if name == "harness" or name.startswith("harness.")]
