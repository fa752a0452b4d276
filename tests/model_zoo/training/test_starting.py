"""Tests that a run that starts from a packed checkpoint starts exactly from its content, and that another file is detected."""

import dataclasses
import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from model_zoo.errors import DamagedFileError, UsageError
from model_zoo.layers.pruned_binary import PrunedBinaryConv2d
from model_zoo.packing.frozen import batch_norm_tensors, convolutions, dense_weights, effective_weights
from model_zoo.packing.packed import load_packed
from model_zoo.training.building import build_model
from model_zoo.training.outcome import keep
from model_zoo.training.recipe import Recipe
from model_zoo.training.starting import start_from, start_sha256
from model_zoo.training.trainer import train
from tests.model_zoo.families.runs import OPTIONS, SGD, tiny
from tests.model_zoo.training.test_state import train_with_interruptions
from tests.model_zoo.training.test_trainer import hash_of_weights
from tests.model_zoo.training.tiny import SAMPLE, recipe

DENSE = ["atmc", "bcs", "dense", "dense-binary", "flying-bird", "harp", "hydra", "int8", "lwm", "robust-bird"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `dense.safetensors`, `mask.safetensors` and `rst.safetensors`, each trained for one epoch."""
    root = tmp_path_factory.mktemp("start")
    for name, chosen in (("dense", recipe("dense", epochs=1)), ("mask", recipe(epochs=1)), ("rst", tiny("rst", epochs=1))):
        chosen = dataclasses.replace(chosen, id=name)
        keep(train(chosen, SAMPLE.images, SAMPLE.labels), chosen, root)
    return root


def starting_recipe(folder: Path, name: str, family: str = "pruned-binary", **top: Any) -> Recipe:
    chosen = tiny(family) if family in OPTIONS and family != "pruned-binary" else recipe(top=top)
    return dataclasses.replace(chosen, start_from=name, folder=folder)


@pytest.mark.parametrize("family", DENSE)
def test_weights_and_batch_norms_are_taken_from_the_file(family: str, folder: Path) -> None:
    chosen = starting_recipe(folder, "dense.safetensors", family)
    model = build_model(chosen)
    initial_weights = effective_weights(model)
    start_from(model, chosen)
    packed = load_packed(folder / "dense.safetensors").model
    for target, source in zip(batch_norm_tensors(model), batch_norm_tensors(packed), strict=True):
        assert torch.equal(target, source)
    for layer, weight, initial_weight, expected in zip(
        convolutions(model), effective_weights(model), initial_weights, dense_weights(packed), strict=True
    ):
        actual, mask = torch.from_numpy(weight), getattr(layer, "mask", torch.ones(1))
        if family == "dense-binary":
            assert torch.equal(actual, torch.where(expected < 0, -1.0, 1.0))
        else:
            # Eight bits round by at most half a step of 1/127 of the largest weight.
            tolerance = float(expected.abs().max()) / 250 if family == "int8" else 1e-7
            assert torch.allclose(actual, expected * mask, atol=tolerance)
        assert not torch.equal(actual, torch.from_numpy(initial_weight))


def test_bcs_takes_signs_and_magnitudes_from_the_file_and_can_be_trained(folder: Path) -> None:
    chosen = starting_recipe(folder, "dense.safetensors", "bcs")
    result = train(chosen, SAMPLE.images, SAMPLE.labels)
    kept = sum(int((torch.from_numpy(weight) != 0).sum()) for weight in effective_weights(result.model))
    assert kept == round(0.2 * sum(weight.size for weight in effective_weights(result.model)))


@pytest.mark.parametrize(("name", "family"), [("mask", "pruned-binary"), ("rst", "rst")])
def test_scores_have_the_mask_of_the_file_and_the_magnitudes_of_the_seed(name: str, family: str, folder: Path) -> None:
    chosen = starting_recipe(folder, f"{name}.safetensors", family)
    initial_model, model = build_model(chosen), build_model(chosen)
    start_from(model, chosen)
    packed = load_packed(folder / f"{name}.safetensors").model
    changes = 0
    for initial_layer, layer, weight in zip(convolutions(initial_model), convolutions(model), dense_weights(packed), strict=True):
        assert isinstance(initial_layer, PrunedBinaryConv2d) and isinstance(layer, PrunedBinaryConv2d)
        assert torch.equal(layer.mask > 0, weight != 0)
        assert torch.equal(layer.effective_weight().sign(), weight.sign()) and torch.equal(layer.signs, initial_layer.signs)
        assert torch.allclose(layer.scores.flatten().sort().values, initial_layer.scores.flatten().sort().values, rtol=1e-6)
        changes += int((layer.mask != initial_layer.mask).sum())
        layer.refresh()
        assert torch.equal(layer.mask > 0, weight != 0)
    assert changes > 10


def test_equal_scores_give_the_mask_of_the_file(folder: Path) -> None:
    chosen = starting_recipe(folder, "mask.safetensors")
    model = build_model(chosen)
    layers = [layer for layer in model.modules() if isinstance(layer, PrunedBinaryConv2d)]
    with torch.no_grad():
        for layer in layers:
            layer.scores.copy_(layer.scores.sign() * 0.01)
    start_from(model, chosen)
    for layer, weight in zip(layers, dense_weights(load_packed(folder / "mask.safetensors").model), strict=True):
        assert torch.equal(layer.mask > 0, weight != 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 4}, "layer 0: its signs are not those"),
        ({"options": {"keep_ratio": 0.3, "allocation_power": 0.1}}, "the recipe"),
        ({"architecture": {**recipe().architecture, "width": 4}}, "another architecture"),
    ],
)
def test_a_file_that_does_not_fit_is_an_error(change: dict[str, Any], words: str, folder: Path) -> None:
    chosen = dataclasses.replace(
        starting_recipe(folder, "mask.safetensors", **{key: value for key, value in change.items() if key == "options"})
    )
    if "options" not in change:
        chosen = dataclasses.replace(chosen, **change)
    with pytest.raises(UsageError, match=words):
        start_from(build_model(chosen), chosen)


def test_other_batch_norms_are_an_error(folder: Path) -> None:
    chosen = dataclasses.replace(recipe("dense"), start_from="mask.safetensors", folder=folder)
    with pytest.raises(UsageError, match="other batch norms"):
        start_from(build_model(chosen), chosen)


def test_absent_and_damaged_files_are_errors(tmp_path: Path) -> None:
    chosen = starting_recipe(tmp_path, "absent.safetensors")
    with pytest.raises(DamagedFileError, match="absent"):
        train(chosen, SAMPLE.images, SAMPLE.labels)
    (tmp_path / "absent.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(DamagedFileError, match="absent"):
        train(chosen, SAMPLE.images, SAMPLE.labels)


def test_missing_packages_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("model_zoo.packing")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "constriction", None)
    chosen = starting_recipe(folder, "mask.safetensors")
    with pytest.raises(UsageError, match="safetensors and constriction"):
        start_from(build_model(chosen), chosen)


@pytest.mark.parametrize(("name", "family"), [("mask", "pruned-binary"), ("dense", "dense")])
def test_runs_from_a_start_file_resume_and_another_file_is_an_error(
    name: str, family: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / f"{name}.safetensors"
    file.write_bytes((folder / file.name).read_bytes())
    plain = recipe(family, **({} if family == "pruned-binary" else SGD))
    chosen = dataclasses.replace(plain, start_from=file.name, folder=tmp_path)
    assert start_sha256(chosen) == hashlib.sha256(file.read_bytes()).hexdigest() and start_sha256(plain) == ""
    uninterrupted = train(chosen, SAMPLE.images, SAMPLE.labels)
    assert hash_of_weights(uninterrupted, chosen) != hash_of_weights(train(plain, SAMPLE.images, SAMPLE.labels), plain)
    path = tmp_path / "tiny.state.pt"
    assert hash_of_weights(train_with_interruptions(chosen, path, [3], monkeypatch), chosen) == hash_of_weights(uninterrupted, chosen)
    record = keep(train(plain, SAMPLE.images, SAMPLE.labels), dataclasses.replace(plain, id="other"), tmp_path)
    file.write_bytes((tmp_path / record.checkpoint.file).read_bytes())
    with pytest.raises(UsageError, match="another starting_weights"):
        train(chosen, SAMPLE.images, SAMPLE.labels, state=path)
