"""Tests of which recipes engine sparse trains, and of what happens without numba."""

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
from tests.model_zoo.training.sparse_cases import MASKED, masked, numba
from tests.model_zoo.training.test_main import ALONE, toml
from tests.model_zoo.training.tiny import SAMPLE, recipe


@pytest.fixture
def absent_numba(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "numba" else find_spec(name, *rest))
    yield


REFUSED: dict[str, tuple[Recipe, str]] = {
    "faithful": (masked("rst", {"faithful": True}), "faithful"),
    "batch": (recipe(batch=50), "multiples of 16, not 50"),
    "architecture": (masked("rst", name="imagenet-resnet18"), "not imagenet-resnet18"),
    "classifier": (masked("rst", head_bias=True), "no classifier with a bias"),
    "activation": (masked("rst", activation="sign-ste"), "ReLU, not the activation sign-ste"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_it_cannot_train_is_refused_by_name_and_left_to_the_dense_engine(reason: str, absent_numba: None) -> None:
    chosen, message = REFUSED[reason]
    with pytest.raises(UsageError, match=message) as refusal:
        resolve_engine(chosen, "cpu", "sparse")
    assert "--engine dense" in str(refusal.value) and repr(chosen.id) in str(refusal.value)
    # The dense engine is chosen without numba too, because it does not need it.
    assert resolve_engine(chosen, "cpu") == resolve_engine(chosen, "cpu", "dense") == "dense"


@numba
@pytest.mark.parametrize("chosen", [recipe("dense", batch=48), masked("rst", options={"keep_ratio": 0.5})])
def test_networks_that_keep_half_are_trained_sparsely_only_if_asked(chosen: Recipe) -> None:
    assert (resolve_engine(chosen, "cpu"), resolve_engine(chosen, "cpu", "sparse")) == ("dense", "sparse")


@numba
@pytest.mark.parametrize("family", MASKED)
def test_networks_that_keep_less_than_half_are_trained_sparsely_on_the_cpu(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = masked(family)
    assert resolve_engine(chosen, "cpu") == resolve_engine(chosen, "cpu", "sparse") == "sparse"
    assert resolve_engine(chosen, "cpu", "dense") == "dense"
    assert resolve_engine(chosen, "cuda") == "dense"
    with pytest.raises(UsageError, match="on the CPU, in one process"):
        resolve_engine(chosen, "cuda", "sparse")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert resolve_engine(chosen, "cpu") == "dense"
    with pytest.raises(UsageError, match="on the CPU, in one process"):
        resolve_engine(chosen, "cpu", "sparse")


@pytest.mark.parametrize("asked", ["auto", "sparse"])
def test_without_numba_the_extra_and_the_other_engine_are_named(asked: str, absent_numba: None) -> None:
    with pytest.raises(UsageError, match=r"needs numba: pip install 'robust-binary-harness\[fast\]', or train with --engine dense"):
        resolve_engine(masked("rst"), "cpu", asked)
    assert resolve_engine(masked("rst"), "cpu", "dense") == "dense"
    assert asked in ENGINES


def run(folder: Path, chosen: Recipe, *extra: str) -> subprocess.CompletedProcess[str]:
    """Train in a process without the project's other packages and without numba."""
    (folder / "tiny.toml").write_text(toml(chosen))
    np.savez(folder / "arrays.npz", x=SAMPLE.images, y=SAMPLE.labels)
    script = ALONE.replace("import runpy", "sys.modules['numba'] = sys.modules['llvmlite'] = None\nimport runpy")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, "tiny.toml", "--arrays", "arrays.npz", "--threads", "1", *extra]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_a_dense_recipe_imports_nothing_of_numba(tmp_path: Path) -> None:
    process = run(tmp_path, recipe("dense", batch=48, epochs=1))
    assert process.returncode == 0, process.stderr
    assert "epoch 1" in process.stderr


def test_a_sparse_recipe_without_numba_stops_in_one_line_and_trains_densely_on_request(tmp_path: Path) -> None:
    chosen = masked("rst")
    process = run(tmp_path, chosen)
    assert process.returncode == UsageError.exit_code
    assert process.stderr.startswith("error: ") and process.stderr.count("\n") == 1 and "--engine dense" in process.stderr
    process = run(tmp_path, chosen, "--engine", "dense")
    assert process.returncode == 0, process.stderr
