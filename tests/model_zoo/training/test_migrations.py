"""Tests that runs stored by an older version resume to the weights of an uninterrupted run.

The states in `version1` were written in the middle of a run, on one thread, before methods had controllers.
"""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from model_zoo.errors import DamagedFileError
from model_zoo.training.curve import EpochRecord
from model_zoo.training.migrations import STEPS, VERSION
from model_zoo.training.recipe import Recipe
from model_zoo.training.state import read_state
from model_zoo.training.trained import Step
from model_zoo.training.trainer import finished, train
from tests.model_zoo.training.test_state import Killed
from tests.model_zoo.training.tiny import SAMPLE

STATES = sorted((Path(__file__).parent / "version1").glob("*.state.pt.gz"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def unpack(path: Path, folder: Path) -> Path:
    target = folder / path.name.removesuffix(".gz")
    target.write_bytes(gzip.decompress(path.read_bytes()))
    return target


def step_of(state: dict[str, Any]) -> int:
    """Return the number of steps done when the state was stored, with five steps per epoch."""
    return 5 * len(state["curve"]) + int(state["position"])


def stored_at(recipe: Recipe, step: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the state that the current version stores after `step` steps."""

    def die(event: Step | EpochRecord) -> None:
        if isinstance(event, Step) and event.done == step + 1:
            raise Killed

    with pytest.raises(Killed):
        train(recipe, SAMPLE.images, SAMPLE.labels, report=die, state=path, save_every=0.0)
    return read_state(path)


@pytest.mark.parametrize("packed", STATES, ids=lambda path: path.name.split(".")[0])
def test_a_run_of_version_1_resumes_to_the_same_weights(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = unpack(packed, tmp_path)
    assert torch.load(path, weights_only=True)["version"] == 1
    state = read_state(path)
    recipe = Recipe.from_dict(state["recipe"])
    # Another processor may round differently before the state was stored; then nothing can be compared.
    current = stored_at(recipe, step_of(state), tmp_path / "present.state.pt", monkeypatch)
    if any(not torch.equal(current["model"][name], tensor) for name, tensor in state["model"].items()):
        pytest.skip("this processor computes other bits than the one that stored the state")
    assert set(current["controller"]) == set(state["controller"])
    assert all(torch.equal(current["controller"][name], tensor) for name, tensor in state["controller"].items())
    uninterrupted = train(recipe, SAMPLE.images, SAMPLE.labels)
    resumed = train(recipe, SAMPLE.images, SAMPLE.labels, state=path)
    expected, actual = uninterrupted.model.state_dict(), resumed.model.state_dict()
    assert expected.keys() == actual.keys()
    assert all(torch.equal(actual[name], tensor) for name, tensor in expected.items())
    assert [record.train_loss for record in resumed.curve] == [record.train_loss for record in uninterrupted.curve]
    assert read_state(path)["version"] == VERSION
    assert finished(recipe, path) is not None


def test_migrations_lead_from_each_version_to_the_next() -> None:
    assert sorted(STEPS) == list(range(1, VERSION))


def test_newer_versions_are_errors(tmp_path: Path) -> None:
    torch.save({"format": "robust-binary-training", "version": VERSION + 1}, tmp_path / "newer.state.pt")
    with pytest.raises(DamagedFileError, match=f"version {VERSION + 1}"):
        read_state(tmp_path / "newer.state.pt")
