"""Tests of `python -m model_zoo.training` with torch and numpy only, in one and in several processes."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model_zoo.errors import UsageError
from model_zoo.training.__main__ import main
from model_zoo.training.recipe import Recipe
from model_zoo.training.state import read_state
from model_zoo.training.trainer import finished, train
from tests.model_zoo.training.test_trainer import hash_of_weights
from tests.model_zoo.training.tiny import SAMPLE, recipe

# Packages that only other parts of the project need.
ABSENT = (
    "click constriction harness matplotlib pandas PIL pooch pyarrow pyautoattack pydantic rich robustbench safetensors scipy "
    "tomli_w torchattacks torchvision"
)
ALONE = (
    f"import sys\nfor name in {ABSENT!r}.split(): sys.modules[name] = None\n"
    "import runpy\nsys.argv = ['training', *sys.argv[1:]]\nrunpy.run_module('model_zoo.training', run_name='__main__')\n"
)


def toml(chosen: Recipe) -> str:
    fields = chosen.to_dict()
    sections = [name for name, value in fields.items() if isinstance(value, dict)]
    lines = [f"{name} = {json.dumps(value)}" for name, value in fields.items() if name not in sections]
    for name in sections:
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in fields[name].items() if value is not None)]
    return "\n".join(lines)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiny.toml").write_text(toml(recipe()))
    np.savez(tmp_path / "arrays.npz", x=SAMPLE.images, y=SAMPLE.labels)
    return tmp_path


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    arguments = ["tiny.toml", "--arrays", "arrays.npz", "--threads", "1"]
    return subprocess.run([*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_the_recipe_of_the_tests_round_trips(folder: Path) -> None:
    assert Recipe.load(folder / "tiny.toml") == recipe()


def test_training_needs_only_torch_and_numpy_and_the_state_becomes_a_model(folder: Path) -> None:
    process = run(folder, sys.executable, "-c", ALONE)
    assert process.returncode == 0, process.stderr
    assert "epoch 2" in process.stderr
    assert (folder / "trained" / "tiny.csv").read_text().count("\n") == 3
    trained = finished(recipe(), folder / "trained" / "tiny.state.pt")
    assert trained is not None
    assert hash_of_weights(trained, recipe()) == hash_of_weights(train(recipe(), SAMPLE.images, SAMPLE.labels), recipe())


def test_test_arrays_are_added_to_the_curve(folder: Path) -> None:
    np.savez(folder / "test.npz", x=SAMPLE.images[:50], y=SAMPLE.labels[:50])
    process = run(folder, sys.executable, "-c", ALONE, "--test-arrays", "test.npz", "--engine", "dense")
    assert process.returncode == 0, process.stderr
    assert "test clean" in process.stderr
    assert (folder / "trained" / "tiny.csv").read_text().splitlines()[0].endswith("test_clean_accuracy,test_pgd_accuracy")


def test_starting_from_a_checkpoint_names_missing_packages(folder: Path) -> None:
    (folder / "mask.safetensors").write_bytes(b"")
    (folder / "tiny.toml").write_text(toml(dataclasses.replace(recipe(), start_from="mask.safetensors")))
    process = run(folder, sys.executable, "-c", ALONE)
    assert process.returncode == UsageError.exit_code
    assert "mask.safetensors needs the packages safetensors and constriction" in process.stderr


def test_two_processes_train_one_model(folder: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "model_zoo.training"]
    process = run(folder, *launcher)
    assert process.returncode == 0, process.stderr
    state = read_state(folder / "trained" / "tiny.state.pt")
    assert state["processes"] == 2 and len(state["curve"]) == 2
    trained = finished(recipe(), folder / "trained" / "tiny.state.pt")
    assert trained is not None
    # The gradient is that of the whole batch up to the batch statistics of each half, so the loss is close to that of one process.
    single = train(recipe(), SAMPLE.images, SAMPLE.labels)
    assert trained.curve[-1].train_loss == pytest.approx(single.curve[-1].train_loss, rel=0.2)
    assert hash_of_weights(trained, recipe()) != hash_of_weights(single, recipe())


def test_two_processes_average_one_model(folder: Path) -> None:
    chosen = recipe(top={"average": 0.9}, epochs=1)
    (folder / "tiny.toml").write_text(toml(chosen))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "model_zoo.training"]
    process = run(folder, *launcher)
    assert process.returncode == 0, process.stderr
    assert finished(chosen, folder / "trained" / "tiny.state.pt") is not None


def test_an_indivisible_batch_is_an_error(folder: Path) -> None:
    indivisible = recipe(batch=51)
    (folder / "tiny.toml").write_text(toml(dataclasses.replace(indivisible)))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "model_zoo.training"]
    process = run(folder, *launcher)
    assert process.returncode != 0
    assert "a batch of 51 cannot be divided among 2 processes" in process.stderr


def test_several_processes_print_and_write_once(folder: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "model_zoo.training"]
    process = run(folder, *launcher)
    assert process.stderr.count("epoch 2") == 1
    assert process.stderr.count("curve: ") == 1


def test_invalid_input_is_a_one_line_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path / "absent.toml"), "--arrays", str(tmp_path / "absent.npz")])
    assert stopped.value.code == UsageError.exit_code
    assert capsys.readouterr().err.startswith("error: no recipe file")
