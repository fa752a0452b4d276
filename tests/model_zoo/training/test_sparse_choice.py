"""Tests of which recipes engine sparse supports, and of the behaviour without numba."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from model_zoo.errors import UsageError
from model_zoo.training.engine import ENGINES, resolve_engine
from model_zoo.training.recipe import Recipe
from tests.model_zoo.training.sparse_cases import MASKED, masked_recipe, numba
from tests.model_zoo.training.test_main import ALONE, toml
from tests.model_zoo.training.tiny import SAMPLE, recipe


@pytest.fixture
def absent_numba(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "numba" else find_spec(name, *rest))
    yield


UNSUPPORTED: dict[str, tuple[Recipe, str]] = {
    "faithful": (masked_recipe("rst", {"faithful": True}), "faithful"),
    "batch": (recipe(batch=50), "multiples of 16, not 50"),
    "architecture": (masked_recipe("rst", name="imagenet-resnet18"), "not imagenet-resnet18"),
    "classifier": (masked_recipe("rst", head_bias=True), "not support a classifier with a bias"),
    "activation": (masked_recipe("rst", activation="sign-ste"), "ReLU, not the activation sign-ste"),
}


@pytest.mark.parametrize("reason", UNSUPPORTED)
def test_unsupported_recipes_are_errors_and_use_the_dense_engine_by_default(reason: str, absent_numba: None) -> None:
    chosen, message = UNSUPPORTED[reason]
    with pytest.raises(UsageError, match=message) as refusal:
        resolve_engine(chosen, "cpu", "sparse")
    assert "--engine dense" in str(refusal.value) and repr(chosen.id) in str(refusal.value)
    # The dense engine is selected without numba, too, because it does not need it.
    assert resolve_engine(chosen, "cpu") == resolve_engine(chosen, "cpu", "dense") == "dense"


@numba
@pytest.mark.parametrize("chosen", [recipe("dense", batch=48), masked_recipe("rst", options={"keep_ratio": 0.5})])
def test_networks_with_half_of_their_weights_use_engine_sparse_only_on_request(chosen: Recipe) -> None:
    assert (resolve_engine(chosen, "cpu"), resolve_engine(chosen, "cpu", "sparse")) == ("dense", "sparse")


@numba
@pytest.mark.parametrize("family", MASKED)
def test_sparser_networks_use_engine_sparse_on_the_cpu(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = masked_recipe(family)
    assert resolve_engine(chosen, "cpu") == resolve_engine(chosen, "cpu", "sparse") == "sparse"
    assert resolve_engine(chosen, "cpu", "dense") == "dense"
    assert resolve_engine(chosen, "cuda") == "dense"
    with pytest.raises(UsageError, match="only on the CPU, in one process"):
        resolve_engine(chosen, "cuda", "sparse")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert resolve_engine(chosen, "cpu") == "dense"
    with pytest.raises(UsageError, match="only on the CPU, in one process"):
        resolve_engine(chosen, "cpu", "sparse")


@pytest.mark.parametrize("engine", ["auto", "sparse"])
def test_missing_numba_is_an_error_that_names_the_extra_and_the_dense_engine(engine: str, absent_numba: None) -> None:
    with pytest.raises(UsageError, match=r"needs numba: pip install 'robust-binary-harness\[fast\]', or train with --engine dense"):
        resolve_engine(masked_recipe("rst"), "cpu", engine)
    assert resolve_engine(masked_recipe("rst"), "cpu", "dense") == "dense"
    assert engine in ENGINES


def run(folder: Path, chosen: Recipe, *extra: str) -> subprocess.CompletedProcess[str]:
    """Train in a process without numba and without the other packages of the project."""
    (folder / "tiny.toml").write_text(toml(chosen))
    np.savez(folder / "arrays.npz", x=SAMPLE.images, y=SAMPLE.labels)
    script = ALONE.replace("import runpy", "sys.modules['numba'] = sys.modules['llvmlite'] = None\nimport runpy")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, "tiny.toml", "--arrays", "arrays.npz", "--threads", "1", *extra]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_a_dense_recipe_does_not_import_numba(tmp_path: Path) -> None:
    process = run(tmp_path, recipe("dense", batch=48, epochs=1))
    assert process.returncode == 0, process.stderr
    assert "epoch 1" in process.stderr


def test_a_sparse_recipe_without_numba_is_a_one_line_error_and_can_be_trained_densely(tmp_path: Path) -> None:
    chosen = masked_recipe("rst")
    process = run(tmp_path, chosen)
    assert process.returncode == UsageError.exit_code
    assert process.stderr.startswith("error: ") and process.stderr.count("\n") == 1 and "--engine dense" in process.stderr
    process = run(tmp_path, chosen, "--engine", "dense")
    assert process.returncode == 0, process.stderr
