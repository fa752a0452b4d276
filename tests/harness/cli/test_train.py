"""Tests of `harness train` on the sample's images: a recipe becomes a model, and stopped or finished states are resumed."""

from functools import partial
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from harness.cli.main import main
from harness.datasets import cifar
from harness.datasets.base import ImageSet
from model_zoo.loading import load_model
from model_zoo.registry import read_record
from model_zoo.training.methods.pgd import Madry
from model_zoo.training.sampler import Batch
from model_zoo.training.trainer import train
from tests.model_zoo.training.test_main import toml
from tests.model_zoo.training.tiny import SAMPLE, recipe


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def load_train(name: str, *_: object) -> ImageSet:
        assert name == "cifar10"
        return SAMPLE

    monkeypatch.setattr(cifar, "load_train", load_train)
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(toml(recipe()))
    return tmp_path


def harness(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_training_a_recipe_writes_model_record_and_curve(folder: Path) -> None:
    done = harness("train", "tiny.toml", "--threads", "1")
    assert done.exit_code == 0, done.output
    assert "epoch 2" in done.output and "model: trained/tiny.safetensors" in done.output
    assert {path.name for path in Path("trained").iterdir()} >= {"tiny.toml", "tiny.csv", "tiny.png", "tiny.safetensors"}
    assert not list(Path("trained").glob("*.state.pt"))
    record = read_record(Path("trained/tiny.toml"))
    assert (record.seed, record.data.images) == (3, 500)
    with torch.no_grad():
        assert load_model("trained/tiny.toml")(SAMPLE.first(2).tensors()[0]).shape == (2, 10)


def test_an_interrupted_training_continues(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uninterrupted = harness("train", "tiny.toml", "--threads", "1", "--out", "uninterrupted")
    monkeypatch.setattr("harness.runner.train.train", partial(train, save_every=0.0))
    steps, loss = iter(range(100)), Madry.loss

    def interrupted(method: Madry, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        if next(steps) == 13:
            raise KeyboardInterrupt
        return loss(method, batch)

    with monkeypatch.context() as patched:
        patched.setattr(Madry, "loss", interrupted)
        stopped = harness("train", "tiny.toml", "--threads", "1")
    assert stopped.exit_code == 130 and "same command continues" in stopped.output
    assert Path("trained/tiny.state.pt").is_file() and not Path("trained/tiny.toml").is_file()
    resumed = harness("train", "tiny.toml", "--threads", "1")
    assert "continuing trained/tiny.state.pt" in resumed.output and "epoch 1" not in resumed.output
    assert uninterrupted.exit_code == resumed.exit_code == 0
    assert read_record(Path("trained/tiny.toml")).weights_sha256 == read_record(Path("uninterrupted/tiny.toml")).weights_sha256


def test_a_finished_state_becomes_a_model_without_images(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = train(recipe(), SAMPLE.images, SAMPLE.labels, state=Path("trained/tiny.state.pt"))

    def absent(*_: object) -> None:
        raise AssertionError("no images are needed")

    monkeypatch.setattr(cifar, "load_train", absent)
    done = harness("train", "tiny.toml")
    assert done.exit_code == 0, done.output
    record = read_record(Path("trained/tiny.toml"))
    assert record.training is not None and record.training.hold_out_pgd_accuracy == trained.selected.hold_out_pgd_accuracy


def test_an_absent_device_is_a_one_line_error(folder: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    done = harness("train", "tiny.toml", "--device", "cuda")
    assert done.exit_code == 2 and "no CUDA device" in done.output


def test_test_images_are_added_to_the_curve(folder: Path) -> None:
    done = harness("train", "tiny.toml", "--threads", "1", "--test", "cifar10-sample", "--engine", "dense")
    assert done.exit_code == 0, done.output
    assert "test clean" in done.output
    assert "test_pgd_accuracy" in Path("trained/tiny.csv").read_text().splitlines()[0]
    assert Path("trained/tiny.png").is_file()


def test_an_engine_that_cannot_train_the_recipe_is_a_one_line_error(folder: Path) -> None:
    done = harness("train", "tiny.toml", "--engine", "sparse")
    assert done.exit_code == 2 and "sparse" in done.output
