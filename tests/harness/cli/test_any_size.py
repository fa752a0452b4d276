"""Tests of commands on images of other sizes than CIFAR's: MNIST, SVHN, GTSRB, Tiny-ImageNet, and two classes."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from harness import datasets
from harness.cli.main import main
from model_zoo.registry import read_record
from tests.harness.datasets.archives import pixels, write_gtsrb, write_mnist, write_svhn, write_tiny_imagenet

# Linear networks of the mean brightness that are right on the images of `archives`.
NETWORKS = """
import torch
from torch import nn

def make(channels, size, classes, scale=100.0):
    linear = nn.Linear(channels * (size // 4) ** 2, classes)
    centres = (torch.arange(classes) + 0.5) / classes
    with torch.no_grad():
        linear.weight.copy_((2 * scale * centres / linear.in_features)[:, None].expand_as(linear.weight))
        linear.bias.copy_(-scale * centres**2)
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), linear)

def digits(): return make(1, 28, 10)
def digits_b(): return make(1, 28, 10, 50.0)
def numbers(): return make(3, 32, 10)
def numbers_b(): return make(3, 32, 10, 50.0)
def signs(): return make(3, 48, 43)
def signs_b(): return make(3, 48, 43, 50.0)
def objects(): return make(3, 64, 200)
def objects_b(): return make(3, 64, 200, 50.0)
def pair(): return make(1, 28, 2)
def pair_b(): return make(1, 28, 2, 50.0)
"""
FIELDS = ("--family", "dense", "--method", "madry2018", "--weight-bits", "32")
# Function, data set with its options, and the radius if the data set states none.
CASES = {
    "mnist": ("digits", ("--dataset", "mnist"), ()),
    "svhn": ("numbers", ("--dataset", "svhn"), ()),
    "gtsrb": ("signs", ("--dataset", "gtsrb", "--resize", "48"), ("--radius", "2/255")),
    "tiny-imagenet": ("objects", ("--dataset", "tiny-imagenet"), ("--radius", "4/255")),
    "two classes": ("pair", ("--dataset", "pairs.npz"), ("--radius", "8/255")),
}
RADII = {"mnist": "Linf 3/10", "svhn": "Linf 8/255", "gtsrb": "Linf 2/255", "tiny-imagenet": "Linf 4/255", "two classes": "Linf 8/255"}


def harness(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), env={"HARNESS_DATA_DIR": "data"})


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NETWORKS)
    write_mnist(Path("data/mnist"), 20)
    write_svhn(Path("data"), 20)
    write_gtsrb(Path("data"), 45)
    write_tiny_imagenet(Path("data"), 20)
    np.savez("pairs.npz", x=pixels(np.arange(20) % 2, 2, 28, 28), y=np.arange(20) % 2)
    return tmp_path


def add(function: str, images: tuple[str, ...], name: str) -> Result:
    return harness("add", f"net.py:{function}", "--id", name, *FIELDS, *images, "--radius", "4/255")


@pytest.mark.needs_onnx
@pytest.mark.parametrize("case", CASES)
def test_networks_are_added_attacked_and_reported(case: str) -> None:
    function, images, radius = CASES[case]
    name, path = f"{function}-a", f"added/{function}-a.toml"
    added = add(function, images, name)
    assert added.exit_code == 0, added.stderr
    assert read_record(Path(path)).input_shape == datasets.load(*_loaded(images)).tensors()[0].shape[1:]
    ran = harness("run", "--model", path, *images, *radius, "--n", "6", "--attack", "pgd", "--workers", "1")
    assert ran.exit_code == 0 and RADII[case] in ran.stdout, ran.stderr
    shown = harness("show", path)
    assert shown.exit_code == 0 and "robust accuracy" in shown.stdout, shown.output
    reported = harness("report")
    assert reported.exit_code == 0 and RADII[case] in Path("reports/requests/summary.md").read_text(), reported.output


@pytest.mark.slow
@pytest.mark.needs_onnx
@pytest.mark.parametrize("case", CASES)
def test_networks_are_compared_and_diagnosed(case: str) -> None:
    function, images, radius = CASES[case]
    name, path = f"{function}-c", f"added/{function}-c.toml"
    assert add(function, images, name).exit_code == 0
    few = (*images, *radius, "--n", "4")
    compared = harness("compare", f"net.py:{function}_b", *few, "--against", path, "--attack", "pgd", "--workers", "1", "--json")
    assert compared.exit_code == 0, compared.stderr
    (comparison,) = json.loads(compared.stdout)["comparisons"]
    assert (comparison["threat"], comparison["attacks"]) == (RADII[case], ["pgd"]) and comparison["opponents"][0]["images"] == 4
    diagnosed = harness("diagnose", path, *few)
    assert diagnosed.exit_code == 0 and "transfer: not tested" in diagnosed.stdout, diagnosed.stderr


def _loaded(images: tuple[str, ...]) -> tuple[str, Path]:
    name = images[1] if len(images) == 2 else f"{images[1]}?resize={images[3]}"
    return name, Path("data")


RECIPE = """
id = "digits-net"
title = "ResNet-8 for digits"
family = "dense"
seed = 0

[architecture]
name = "cifar-resnet8"
classes = 10
width = 4
stem_stride = 2
last_batch_norm = "affine"
normalisation = "cifar10"

[data]
dataset = "cifar10"
hold_out = 4

[attack]
threat = "Linf 3/10"
step = "1/10"
steps = 1

[optimiser]
kind = "sgd"
learning_rate = 0.1
epochs = 1
batch = 8
"""


def test_a_recipe_trains_on_arrays_and_the_model_is_attacked() -> None:
    Path("digits.toml").write_text(RECIPE)
    trained = harness("train", "digits.toml", "--arrays", "pairs.npz", "--threads", "1", "--engine", "dense")
    assert trained.exit_code == 0, trained.output
    record = read_record(Path("trained/digits-net.toml"))
    assert (record.classes, record.input_shape, record.data.train) == (2, (1, 28, 28), datasets.describe("pairs.npz").family)
    assert record.architecture["normalisation"]["mean"] == pytest.approx([0.5], abs=0.01)
    ran = harness("run", "--model", "trained/digits-net.toml", "--dataset", "pairs.npz", "--radius", "3/10", "--workers", "1")
    assert ran.exit_code == 0 and "digits-net" in ran.stdout, ran.stderr


def test_a_recipe_trains_on_a_published_archive_without_mirroring() -> None:
    Path("digits.toml").write_text(RECIPE)
    absent = harness("train", "digits.toml", "--dataset", "mnist")
    assert absent.exit_code == 1 and "mnist: no train-images-idx3-ubyte" in absent.output
    write_mnist(Path("data/mnist"), 20, "train")
    trained = harness("train", "digits.toml", "--dataset", "mnist", "--resize", "32", "--test", "mnist?resize=32", "--threads", "1")
    assert trained.exit_code == 0, trained.output
    record = read_record(Path("trained/digits-net.toml"))
    assert (record.data.train, record.data.images, record.input_shape) == ("mnist", 16, (1, 32, 32))


def test_radii_sizes_and_attacks_that_do_not_fit_are_one_line() -> None:
    unstated = harness("run", "--model", "cifar10-rn8w28-dense", "--dataset", "gtsrb", "--n", "2")
    assert unstated.exit_code in (1, 2) and unstated.stderr.count("\n") == 1
    resized = harness("run", "--model", "cifar10-rn8w28-dense", "--dataset", "cifar10", "--resize", "28")
    assert resized.exit_code == 2 and "gtsrb, mnist, svhn, tiny-imagenet" in resized.stderr
    norm = harness("compare", "net.py:numbers", "--dataset", "svhn", "--attack", "cw-l2", "--radius", "Linf 8/255", "--n", "2")
    assert norm.exit_code == 2 and "none of the attacks cw-l2 is for Linf" in norm.stderr
    few = harness("compare", "net.py:signs", "--dataset", "gtsrb", "--resize", "48", "--n", "2")
    assert few.exit_code == 2 and "--radius" in few.stderr, few.stderr
