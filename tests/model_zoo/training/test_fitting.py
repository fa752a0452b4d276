"""Tests of recipes fitted to other images, and of the errors for images that a recipe's network does not take."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from model_zoo.classifier import Classifier, build_classifier
from model_zoo.errors import UsageError
from model_zoo.loading import load_model
from model_zoo.training.fitting import fit, pixel_statistics
from model_zoo.training.outcome import keep
from model_zoo.training.recipe import Recipe
from model_zoo.training.sampler import Crop, cuts
from model_zoo.training.sharing import Draws, Share
from model_zoo.training.trainer import train
from tests.model_zoo.training.tiny import recipe

GREY = np.random.default_rng(0).integers(0, 256, (120, 28, 28, 1), dtype=np.uint8)
LABELS = np.arange(120) % 3


def small(**fields: object) -> Recipe:
    chosen = recipe(batch=16, epochs=1)
    return dataclasses.replace(chosen, data=dataclasses.replace(chosen.data, hold_out=20), **fields)  # type: ignore[arg-type]


def test_statistics_are_those_of_the_pixels() -> None:
    images = np.random.default_rng(1).integers(0, 256, (1200, 3, 4, 3), dtype=np.uint8)
    images[..., 2] = 51
    found = pixel_statistics(images)
    assert np.allclose(found["mean"], images.mean((0, 1, 2)) / 255, atol=1e-4) and found["mean"][2] == 0.2
    assert np.allclose(found["std"][:2], images[..., :2].std((0, 1, 2)) / 255, atol=1e-4) and found["std"][2] == 1.0


def test_a_recipe_takes_classes_channels_and_statistics_of_its_images() -> None:
    fitted = fit(small(), GREY, 3, "digits", flip=False)
    assert (fitted.architecture["classes"], fitted.architecture["channels"]) == (3, 1)
    assert fitted.architecture["normalisation"] == pixel_statistics(GREY)
    assert (fitted.data.dataset, fitted.data.flip, fitted.attack) == ("digits", False, small().attack)
    again = fit(fitted, np.zeros((2, 8, 8, 3), np.uint8), 5, "others")
    assert again.architecture["normalisation"] == pixel_statistics(GREY) and "channels" not in again.architecture
    assert not again.data.flip and Recipe.from_dict(again.to_dict()) == again


def test_recipes_that_flip_have_the_fields_of_older_ones() -> None:
    assert "flip" not in small().to_dict()["data"]
    assert Recipe.from_dict(small().to_dict()) == small()


@pytest.mark.parametrize("engine", ["dense", pytest.param("sparse", marks=pytest.mark.needs_numba)])
def test_grey_images_are_trained_and_kept_with_their_shape(tmp_path: Path, engine: str) -> None:
    chosen = fit(small(), GREY, 3, "digits", flip=False)
    record = keep(train(chosen, GREY, LABELS, engine=engine), chosen, tmp_path)
    assert record.input_shape == (1, 28, 28) and record.classes == 3
    with torch.no_grad():
        assert load_model(str(tmp_path / "tiny.toml"))(torch.rand(2, 1, 28, 28)).shape == (2, 3)


def test_images_are_only_mirrored_if_mirror_images_have_the_same_class() -> None:
    images = torch.zeros(40, 1, 6, 6)
    draws = [Draws(torch.Generator().manual_seed(0), Share()) for _ in range(2)]
    _, mirrored = cuts(images, Crop(), draws[0])
    _, plain = cuts(images, Crop(flip=False), draws[1])
    assert bool((mirrored.diff(dim=1) < 0).any()) and bool((plain.diff(dim=1) == 1).all())
    assert torch.equal(draws[0].generator.get_state(), draws[1].generator.get_state())


@pytest.mark.parametrize(
    ("architecture", "shape", "words"),
    [
        ({}, (120, 28, 28, 1), r"3 channel\(s\)"),
        ({"channels": 2}, (120, 28, 28, 1), "1 channel"),
        ({"channels": 1, "normalisation": "cifar10"}, (120, 28, 28, 1), "3 channels does not fit images of 1"),
        ({"classes": 2}, (120, 28, 28, 3), "labels up to 2"),
        ({"name": "vgg16", "channels": 1, "normalisation": "none"}, (120, 28, 28, 1), "vgg16"),
        ({"normalisation": {"mean": [0.5]}}, (120, 28, 28, 3), "mean and std"),
        ({"normalisation": {"mean": [0.5], "std": [0.0]}}, (120, 28, 28, 3), "positive"),
        ({"normalisation": {"mean": [0.5], "std": [1.0]}}, (120, 28, 28, 3), "1 channels"),
    ],
)
def test_images_that_a_network_does_not_take_are_one_line(architecture: dict[str, object], shape: tuple[int, ...], words: str) -> None:
    fields = {**small().architecture, **architecture}
    if fields["name"] == "vgg16":
        fields = {name: fields[name] for name in ("name", "classes", "channels", "normalisation")}
    with pytest.raises(UsageError, match=words) as caught:
        train(small(architecture=fields), np.zeros(shape, np.uint8), LABELS)
    assert "\n" not in str(caught.value)


def test_a_size_that_a_network_cannot_take_is_one_line() -> None:
    fields = {"name": "vgg16", "classes": 3, "normalisation": "none", "widths": [4] * 13, "hidden": [4]}
    with pytest.raises(UsageError, match="does not run on images of 8 x 8 pixels"):
        train(small(architecture=fields, family="dense", options={}), np.zeros((120, 8, 8, 3), np.uint8), LABELS)


def test_stated_numbers_normalise() -> None:
    fields = {**small().architecture, "channels": 1, "normalisation": {"mean": [0.25], "std": [0.5]}}
    model = build_classifier(fields)
    assert isinstance(model, Classifier) and float(model.mean) == 0.25 and float(model.deviation) == 0.5
