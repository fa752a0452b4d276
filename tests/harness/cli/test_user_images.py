"""Tests of commands on users' images: grey arrays from `add` to `diagnose`, notes, and the warning about chance accuracy."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from harness import datasets
from harness.cli.main import main

GREY = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
"""
FIELDS = ("--family", "dense", "--method", "madry2018", "--weight-bits", "32", "--radius", "8/255")


def harness(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net.py").write_text(GREY)
    random = np.random.default_rng(0)
    np.savez(tmp_path / "digits.npz", images=random.integers(0, 256, (12, 28, 28), dtype=np.uint8), labels=np.arange(12) % 3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_options_for_user_images_are_errors_for_shipped_data(folder: Path) -> None:
    for option in (("--resize", "32"), ("--channels", "1")):
        result = harness("plan", "--model", "cifar10-rn8w28-dense", "--dataset", "cifar10-sample", *option)
        assert result.exit_code == 2 and f"{option[0]} applies only to your own images" in result.stderr


def test_a_warning_is_printed_if_a_model_performs_at_chance(folder: Path) -> None:
    sample = datasets.load("cifar10-sample", n=20)
    np.savez(folder / "shifted.npz", x=sample.images / 255.0, y=(sample.labels + 1) % 10)
    run = ("run", "--model", "cifar10-rn8s29-dense", "--dataset", "shifted.npz", "--radius", "8/255", "--workers", "1")
    result = harness(*run)
    assert result.exit_code == 0, result.stderr
    assert "no better than guessing" in result.stderr and "its floats were multiplied by 255" in result.stderr
    assert "file:shifted-" in result.stdout


@pytest.mark.slow
@pytest.mark.needs_onnx
def test_grey_arrays_from_add_to_diagnose(folder: Path) -> None:
    refused = harness("add", "net.py:make", "--id", "grey-net", *FIELDS, "--dataset", "digits.npz", "--channels", "3")
    assert refused.exit_code == 1 and "3 channels, 28 x 28 pixels; it takes 1 channel, 28 x 28 pixels" in refused.stderr
    assert harness("add", "net.py:make", "--id", "grey-net", *FIELDS, "--dataset", "digits.npz").exit_code == 0
    images = ("--dataset", "digits.npz", "--radius", "8/255", "--n", "8")
    ran = harness("run", "--model", "added/grey-net.toml", *images, "--workers", "1")
    assert ran.exit_code == 0 and "file:digits-" in ran.stdout, ran.stderr
    diagnosed = harness("diagnose", "added/grey-net.toml", *images)
    assert diagnosed.exit_code == 0 and "transfer: not tested" in diagnosed.stdout, diagnosed.stderr
    compared = harness("compare", "net.py:make", *images, "--against", "added/grey-net.toml", "--suite", "smoke", "--workers", "1")
    assert "file:digits-" in compared.stdout and "net-" in compared.stdout, compared.stderr
    assert "name images of your own with --dataset" in harness("diagnose", "added/grey-net.toml").stderr


def test_user_images_are_selected_by_their_path(folder: Path) -> None:
    name = datasets.describe("digits.npz").name
    assert datasets.is_user_data("digits.npz") and datasets.is_user_data(name) and not datasets.is_user_data("cifar10")
