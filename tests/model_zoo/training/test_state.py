"""Tests that a run that is killed at any moment and started again has the weights of an uninterrupted run."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from model_zoo.errors import DamagedFileError, UsageError, UserError
from model_zoo.training.curve import EpochRecord
from model_zoo.training.methods import method_names
from model_zoo.training.recipe import Recipe
from model_zoo.training.sections import SINGLE_STEP
from model_zoo.training.state import read_state, state_path, write_state
from model_zoo.training.trained import Step, Trained
from model_zoo.training.trainer import finished, train
from tests.model_zoo.training.test_trainer import hash_of_weights
from tests.model_zoo.training.tiny import SAMPLE, recipe


class Killed(Exception):
    pass


def train_with_interruptions(chosen: Recipe, path: Path, moments: list[int], monkeypatch: pytest.MonkeyPatch) -> Trained:
    """Train; kill the run right after each of the given steps and resume it; the state is stored at every step."""
    for moment in moments:

        def die(event: Step | EpochRecord, moment: int = moment) -> None:
            if isinstance(event, Step) and event.done == moment:
                raise Killed

        with pytest.raises(Killed):
            train(chosen, SAMPLE.images, SAMPLE.labels, report=die, state=path, save_every=0.0)
    return train(chosen, SAMPLE.images, SAMPLE.labels, state=path, save_every=0.0)


@pytest.mark.parametrize("method", method_names())
def test_a_resumed_run_has_the_same_weights(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = recipe(attack={"method": method, "steps": 1 if method in SINGLE_STEP else 2})
    uninterrupted = train(chosen, SAMPLE.images, SAMPLE.labels)
    resumed = train_with_interruptions(chosen, tmp_path / "tiny.state.pt", [1, 4, 10, 11, 20], monkeypatch)
    assert hash_of_weights(resumed, chosen) == hash_of_weights(uninterrupted, chosen)
    for actual, expected in zip(resumed.curve, uninterrupted.curve, strict=True):
        assert (actual.train_loss, actual.hold_out_pgd_accuracy, actual.learning_rate) == (
            expected.train_loss,
            expected.hold_out_pgd_accuracy,
            expected.learning_rate,
        )


@pytest.mark.parametrize("options", [{"stages": 2}, {"weight_init": "kaiming-normal"}, {"weight_init": "signed-constant-scaled"}])
def test_a_resumed_run_with_other_options_has_the_same_weights(
    options: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = {"options": {"keep_ratio": 0.2, "allocation_power": 0.1, **options}, "select": "last" if "stages" in options else "hold-out"}
    chosen = recipe(top=top)
    uninterrupted = train(chosen, SAMPLE.images, SAMPLE.labels)
    resumed = train_with_interruptions(chosen, tmp_path / "tiny.state.pt", [3, 14], monkeypatch)
    assert hash_of_weights(resumed, chosen) == hash_of_weights(uninterrupted, chosen)
    assert resumed.selected.epoch == uninterrupted.selected.epoch


def test_a_run_resumed_within_a_stage_of_gradual_pruning_has_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = recipe(top={"options": {"keep_ratio": 0.2, "allocation_power": 0.1, "stages": 2}}, epochs=4)
    uninterrupted = train(chosen, SAMPLE.images, SAMPLE.labels)
    # Kill the run in the second of the two epochs of the first stage.
    resumed = train_with_interruptions(chosen, tmp_path / "tiny.state.pt", [14], monkeypatch)
    assert hash_of_weights(resumed, chosen) == hash_of_weights(uninterrupted, chosen)


def test_a_finished_run_is_read_without_images(tmp_path: Path) -> None:
    chosen, path = recipe(), tmp_path / "tiny.state.pt"
    assert finished(chosen, path) is None
    uninterrupted = train(chosen, SAMPLE.images, SAMPLE.labels, state=path)
    reloaded = finished(chosen, path)
    assert reloaded is not None
    assert hash_of_weights(reloaded, chosen) == hash_of_weights(uninterrupted, chosen)
    assert reloaded.curve == uninterrupted.curve and reloaded.images == 600


def test_another_recipe_and_other_images_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "tiny.state.pt"
    train(recipe(epochs=1), SAMPLE.images, SAMPLE.labels, state=path)
    with pytest.raises(UsageError, match="another recipe"):
        train(recipe(epochs=2), SAMPLE.images, SAMPLE.labels, state=path)
    with pytest.raises(UsageError, match="another data"):
        train(recipe(epochs=1), np.ascontiguousarray(SAMPLE.images[::-1]), SAMPLE.labels, state=path)
    with pytest.raises(UsageError, match="another recipe"):
        finished(recipe(epochs=2), path)


def test_missing_fields_of_a_stored_recipe_have_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "tiny.state.pt"
    train(recipe(epochs=1), SAMPLE.images, SAMPLE.labels, state=path)
    state = read_state(path)
    del state["recipe"]["average"], state["recipe"]["attack"]["later"], state["recipe"]["optimiser"]["schedule"]
    write_state(path, state)
    assert finished(recipe(epochs=1), path) is not None
    with pytest.raises(UsageError, match="another recipe"):
        finished(recipe(epochs=1, top={"average": 0.5}), path)
    state["recipe"]["attack"]["strength"] = 3
    write_state(path, state)
    with pytest.raises(UsageError, match=r"cannot be read any more.*strength"):
        finished(recipe(epochs=1), path)


class RunsCommand:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("echo executed",)


def test_invalid_files_are_errors_and_nothing_is_executed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tiny.state.pt"
    write_state(path, {"recipe": {"id": "tiny"}, "tensor": torch.arange(10_000)})
    assert read_state(path)["recipe"] == {"id": "tiny"}
    complete = path.read_bytes()
    for content in (b"", complete[:100], complete[: len(complete) // 2], b"not a state", pickle.dumps(RunsCommand())):
        path.write_bytes(content)
        with pytest.raises(DamagedFileError, match=r"tiny\.state\.pt"):
            read_state(path)
    torch.save({"format": "another"}, path)
    with pytest.raises(DamagedFileError, match="another file"):
        read_state(path)
    torch.save({"format": "robust-binary-training", "version": 99}, path)
    with pytest.raises(DamagedFileError, match="version 99"):
        read_state(path)
    assert "executed" not in capfd.readouterr().out


def test_a_process_killed_by_sigkill_resumes_to_the_same_weights(tmp_path: Path) -> None:
    chosen = recipe(epochs=3)
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, torch\nfrom pathlib import Path\nfrom model_zoo.training import trainer\n"
        "from tests.model_zoo.training.tiny import SAMPLE, recipe\n"
        "torch.set_num_threads(1)\n"
        "trainer.train(recipe(epochs=3), SAMPLE.images, SAMPLE.labels, state=Path(sys.argv[1]), save_every=0.0,\n"
        "    report=lambda event: print(getattr(event, 'done', 0), flush=True))\n"
    )
    path = state_path(tmp_path, chosen.id)
    command = [sys.executable, str(script), str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for last in (b"7\n", b"23\n"):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        assert process.stdout is not None
        for line in process.stdout:
            if line == last:
                process.send_signal(signal.SIGKILL)
                break
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    resumed = train(chosen, SAMPLE.images, SAMPLE.labels, state=path)
    assert hash_of_weights(resumed, chosen) == hash_of_weights(train(chosen, SAMPLE.images, SAMPLE.labels), chosen)
    assert [file.name for file in tmp_path.glob("*.pt")] == [path.name]


def test_a_state_with_values_of_other_types_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.state.pt"
    train(recipe(), SAMPLE.images, SAMPLE.labels, state=path)
    stored = {name: value for name, value in read_state(path).items() if name not in ("format", "version")}
    for name in ("recipe", "curve", "model"):
        for value in (None, 1.5, "x", [[1]], {"a": b"x"}):
            write_state(path, {**stored, name: value})
            with pytest.raises(UserError, match=r"run\.state\.pt"):
                # A short curve is that of a run in progress, which is restored to be continued.
                if finished(recipe(), path) is None:
                    train(recipe(), SAMPLE.images, SAMPLE.labels, state=path)
