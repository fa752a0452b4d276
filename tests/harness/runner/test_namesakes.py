"""Tests of models with the same id and folders with the same name: they are distinguished or an error, never merged."""

import json
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
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a store that contains outcomes of two records with one id, on a different number of images each."""
    root = tmp_path_factory.mktemp("there")
    (root / "nets.py").write_text(FILE)
    for name, n in (("first", 6), ("second", 4)):
        run("add", f"{root}/nets.py:{name}", "--id", "again", *PROPERTIES, "--out", str(root / name))
        harness.evaluate(f"{root}/{name}/again.toml", radius="2/255", n=n, store=root / "store")
    return root


def test_results_distinguish_models_with_the_same_id(records: Path) -> None:
    frame = harness.results(records / "store", model="again")
    assert frame.groupby("model_sha256").size().sort_values().tolist() == [4, 6]


def test_a_summary_of_models_with_the_same_id_is_an_error(records: Path) -> None:
    frame = harness.results(records / "store")
    disjoint = frame[frame["image"].isin([4, 5]) | (frame.groupby("model_sha256")["image"].transform("size") == 4)]
    for outcomes in (frame, disjoint):
        with pytest.raises(UserError, match="2 models called again"):
            summary(outcomes, catalogue({"again": str(records / "first" / "again.toml")}))


def test_show_separates_outcomes_by_record(records: Path) -> None:
    for name, n in (("first", 6), ("second", 4)):
        result = run("show", str(records / name / "again.toml"), "--store", str(records / "store"), "--json")
        assert json.loads(result.stdout)["results"][0]["accuracies"]["worst"]["n"] == n and "1 other model(s) called again" in result.stderr


def test_models_with_the_same_id_cannot_share_a_plan(records: Path) -> None:
    models = [option for name in ("first", "second") for option in ("--model", str(records / name / "again.toml"))]
    result = CliRunner().invoke(main, ["run", *models, "--n", "2", "--store", str(records / "other")])
    assert result.exit_code == 2 and "two models are called again" in result.stderr


def test_invalidating_an_ambiguous_id_is_an_error(records: Path) -> None:
    command = ["store", "invalidate", "--reason", "x", "--dry-run", "--store", str(records / "store"), "--model"]
    assert "2 models are called again" in CliRunner().invoke(main, [*command, "again"]).output
    assert "1 units" in CliRunner().invoke(main, [*command, str(records / "first" / "again.toml")]).output


def test_folders_with_the_same_name_are_different_data_sets(tmp_path: Path) -> None:
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
