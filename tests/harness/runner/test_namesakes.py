"""Tests of two models with one id, and of two folders with one name: they are distinguished or refused, never merged."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import harness
from harness import datasets
from harness.cli.main import main
from harness.reporting.frames import summary
from model_zoo.catalogue import catalogue
from model_zoo.errors import UserError

PROPERTIES = ["--family", "dense", "--method", "madry2018", "--weight-bits", "32", "--dataset", "cifar10", "--radius", "2/255"]
FILE = """
import torch
from torch import nn
from model_zoo.loading import load_model

def first():
    return load_model("cifar10-rn8s29-dense")

def second():
    return load_model("cifar10-rn8w28-dense")
"""


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a store that contains outcomes of two records with one id, on a different number of images each."""
    folder = tmp_path_factory.mktemp("there")
    (folder / "nets.py").write_text(FILE)
    for name, n in (("first", 6), ("second", 4)):
        run("add", f"{folder}/nets.py:{name}", "--id", "again", *PROPERTIES, "--out", str(folder / name))
        harness.evaluate(f"{folder}/{name}/again.toml", radius="2/255", n=n, store=folder / "store")
    return folder


def test_results_distinguish_two_models_of_one_id(there: Path) -> None:
    frame = harness.results(there / "store", model="again")
    assert frame.groupby("model_sha256").size().sort_values().tolist() == [4, 6]


def test_a_summary_refuses_to_merge_them(there: Path) -> None:
    frame = harness.results(there / "store")
    disjoint = frame[frame["image"].isin([4, 5]) | (frame.groupby("model_sha256")["image"].transform("size") == 4)]
    for outcomes in (frame, disjoint):
        with pytest.raises(UserError, match="2 models called again"):
            summary(outcomes, catalogue({"again": str(there / "first" / "again.toml")}))


def test_each_record_shows_its_own_outcomes_and_mentions_others(there: Path) -> None:
    for name, n in (("first", "6"), ("second", "4")):
        result = run("show", str(there / name / "again.toml"), "--store", str(there / "store"))
        assert result.stdout.splitlines()[-1].split()[-2] == n and "1 other model(s) called again" in result.stderr


def test_they_do_not_share_a_plan(there: Path) -> None:
    models = [option for name in ("first", "second") for option in ("--model", str(there / name / "again.toml"))]
    result = CliRunner().invoke(main, ["run", *models, "--n", "2", "--store", str(there / "other")])
    assert result.exit_code == 2 and "two models are called again" in result.stderr


def test_taking_back_by_an_ambiguous_id_is_refused(there: Path) -> None:
    command = ["store", "invalidate", "--reason", "x", "--dry-run", "--store", str(there / "store"), "--model"]
    assert "2 models are called again" in CliRunner().invoke(main, [*command, "again"]).output
    assert "1 units" in CliRunner().invoke(main, [*command, str(there / "first" / "again.toml")]).output


def test_two_folders_of_one_name_are_two_data_sets(tmp_path: Path) -> None:
    images = datasets.load("cifar10-sample", n=40)
    for number, root in enumerate(("one", "two")):
        for position, (pixels, label) in enumerate(zip(images.images, images.labels, strict=True)):
            folder = tmp_path / root / "test" / images.classes[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ascontiguousarray(pixels[::-1] if number else pixels)).save(folder / f"{position:04d}.bmp")
    frames = [
        harness.evaluate("cifar10-rn8s29-dense", dataset=f"folder:{tmp_path}/{root}/test", radius="2/255", n=6, store=tmp_path / "store")
        for root in ("one", "two")
    ]
    combined = harness.results(tmp_path / "store")
    assert len(combined) == 12 and combined["dataset"].nunique() == 2
    for frame in frames:
        stored = combined[combined["dataset"] == frame["dataset"].iloc[0]]
        assert stored["clean_prediction"].tolist() == frame.sort_values("image")["clean_prediction"].tolist()
