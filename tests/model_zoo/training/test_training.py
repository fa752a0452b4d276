"""Training on a few real images: seeded, faithful to its recipe, and nothing outside it moves."""

import csv
import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import datasets
from model_zoo.errors import DamagedFileError, UnknownNameError, UsageError
from model_zoo.layers.pruned_binary import PrunedBinaryConv2d
from model_zoo.loading import load_model
from model_zoo.packing.frozen import freeze, weights_sha256
from model_zoo.registry import model_ids, package_folder, read_record
from model_zoo.training.batches import augment, batches
from model_zoo.training.inner_attack import input_gradients_only, pgd
from model_zoo.training.outcome import keep
from model_zoo.training.recipe import Optimiser, Recipe
from model_zoo.training.trainer import EpochRecord, build_model, learning_rate, train

SAMPLE = datasets.load("cifar10-sample").first(600)


def recipe(family: str = "pruned-binary", **optimiser: Any) -> Recipe:
    options = {"keep_ratio": 0.2, "allocation_power": 0.1} if family == "pruned-binary" else {}
    kind = {"kind": "adam", "learning_rate": 0.01} if family != "dense" else {"kind": "sgd", "learning_rate": 0.1, "momentum": 0.9}
    architecture = {"name": "cifar-resnet8", "classes": 10, "width": 8, "stem_stride": 2, "last_batch_norm": "plain"}
    return Recipe.from_dict(
        {
            "id": "tiny",
            "title": "tiny",
            "family": family,
            "seed": 3,
            "options": options,
            "architecture": {**architecture, "normalisation": "cifar10"},
            "data": {"dataset": "cifar10", "hold_out": 100},
            "attack": {"threat": "Linf 8/255", "step": "6/255", "steps": 2},
            "optimiser": {**kind, "epochs": 2, "batch": 50, **optimiser},
        }
    )


@pytest.mark.parametrize("family", ["pruned-binary", "dense", "dense-binary"])
def test_training_twice_gives_the_same_weights_and_learns(family: str) -> None:
    chosen = recipe(family)
    events: list[object] = []
    first = train(chosen, SAMPLE.images, SAMPLE.labels, report=events.append)
    second = train(chosen, SAMPLE.images, SAMPLE.labels)
    hashes = [weights_sha256(freeze(trained.model, chosen.architecture, family != "pruned-binary")) for trained in (first, second)]
    assert hashes[0] == hashes[1]
    assert [record.epoch for record in first.curve] == [1, 2]
    assert first.curve[1].train_loss < first.curve[0].train_loss
    assert len(events) == 2 * 10 + 2 and sum(isinstance(event, EpochRecord) for event in events) == 2
    assert not first.model.training


def test_training_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(11)
    expected = torch.rand(2)
    torch.manual_seed(11)
    train(recipe(epochs=1), SAMPLE.images[:200], SAMPLE.labels[:200])
    assert torch.equal(torch.rand(2), expected)


def test_random_signs_are_never_trained_and_counts_never_change() -> None:
    chosen = recipe()
    layers = [layer for layer in build_model(chosen).modules() if isinstance(layer, PrunedBinaryConv2d)]
    trained = train(chosen, SAMPLE.images, SAMPLE.labels)
    after = [layer for layer in trained.model.modules() if isinstance(layer, PrunedBinaryConv2d)]
    for old, new in zip(layers, after, strict=True):
        assert torch.equal(old.signs, new.signs.contiguous())
        assert int(new.mask.sum()) == old.kept == new.kept
    assert any(not torch.equal(old.mask, new.mask.contiguous()) for old, new in zip(layers, after, strict=True))


def test_another_seed_gives_other_weights() -> None:
    one, two = build_model(recipe()), build_model(dataclasses.replace(recipe(), seed=4))
    assert not torch.equal(one.network.conv1.signs, two.network.conv1.signs)  # type: ignore[union-attr,arg-type]


def test_the_inner_attack_stays_in_the_ball_raises_the_loss_and_touches_nothing() -> None:
    model = build_model(recipe()).train()
    images, labels = SAMPLE.first(40).tensors()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items() if "num_batches" not in name}
    with input_gradients_only(model):
        adversarial = pgd(model, images, labels, 8 / 255, 6 / 255, 2, torch.Generator().manual_seed(0))
        with torch.no_grad():
            losses = [float(torch.nn.functional.cross_entropy(model(batch), labels)) for batch in (images, adversarial)]
    assert float((adversarial - images).abs().max()) <= 8 / 255 + 1e-6
    assert float(adversarial.min()) >= 0.0 and float(adversarial.max()) <= 1.0
    assert losses[1] > losses[0]
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in state.items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert model.network.bn1.momentum == 0.1  # type: ignore[union-attr]


def test_augmentation_crops_the_padded_image_or_its_mirror() -> None:
    image = torch.arange(1, 1 + 3 * 8 * 8).view(1, 3, 8, 8).repeat(64, 1, 1, 1).float()
    augmented = augment(image, torch.Generator().manual_seed(0), padding=2)
    padded = torch.nn.functional.pad(image[0], (2, 2, 2, 2))
    crops = [padded[:, row : row + 8, column : column + 8] for row in range(5) for column in range(5)]
    crops += [crop.flip(2) for crop in crops]
    found = {next(number for number, crop in enumerate(crops) if torch.equal(crop, picture)) for picture in augmented}
    assert len(found) > 20


def test_batches_are_shuffled_whole_and_scaled() -> None:
    pixels = torch.from_numpy(SAMPLE.images).permute(0, 3, 1, 2)
    labels = torch.arange(len(pixels))
    made = list(batches(pixels, labels, 250, torch.Generator().manual_seed(0)))
    assert [len(images) for images, _ in made] == [250, 250]
    assert len(torch.cat([chosen for _, chosen in made]).unique()) == 500
    assert all(float(images.min()) >= 0.0 and float(images.max()) <= 1.0 for images, _ in made)


def test_the_schedule_warms_up_and_ends_at_zero() -> None:
    options = Optimiser(kind="sgd", learning_rate=1.0, epochs=10, batch=8, warmup=2.0)
    assert learning_rate(options, 0.0) < 0.01
    assert learning_rate(options, 2.0) == 1.0
    assert learning_rate(options, 6.0) == pytest.approx(0.5)
    assert learning_rate(options, 10.0) == pytest.approx(0.0)


def test_what_is_kept_loads_as_what_was_trained(tmp_path: Path) -> None:
    chosen = recipe()
    trained = train(chosen, SAMPLE.images, SAMPLE.labels)
    record = keep(trained, chosen, tmp_path, len(SAMPLE))
    assert read_record(tmp_path / "tiny.toml") == record
    assert (record.data.images, record.keep_ratio, record.training.epochs if record.training else None) == (500, 0.2, 2)
    loaded = load_model(str(tmp_path / "tiny.toml"))
    images, _ = SAMPLE.first(8).tensors()
    with torch.no_grad():
        assert torch.allclose(loaded(images), trained.model(images), atol=1e-5)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "tiny.csv").read_text())))
    assert [float(row["train_loss"]) for row in rows] == pytest.approx([epoch.train_loss for epoch in trained.curve], rel=1e-4)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".safetensors", ".toml"]


def test_every_shipped_model_has_its_recipe() -> None:
    recipes = {path.stem: Recipe.load(path) for path in package_folder("recipes").glob("*.toml")}
    assert set(model_ids()) <= set(recipes)
    assert all(name == loaded.id for name, loaded in recipes.items())


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"family": "prune-binary"}, UnknownNameError, "pruned-binary"),
        ({"options": {"keep_ratio": 0.1}}, UsageError, "allocation_power"),
        ({"options": {"keep_ratio": 0.1, "allocation_power": 0.1, "prune_rate": 0.9}}, UsageError, "prune_rate"),
        ({"sede": 1}, UsageError, "sede"),
        ({"attack": {"threat": "L2 1/2", "step": "1/8", "steps": 2}}, UsageError, "Linf"),
        ({"optimiser": {"kind": "lion", "learning_rate": 1.0, "epochs": 1, "batch": 8}}, UsageError, "lion"),
        ({"data": {"dataset": "cifar10"}}, UsageError, "hold_out"),
    ],
)
def test_a_wrong_recipe_is_refused_by_field(change: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Recipe.from_dict({**recipe().to_dict(), **change})


def test_files_that_are_no_recipes_are_refused_by_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("id = = 1")
    with pytest.raises(DamagedFileError, match=r"mine\.toml"):
        Recipe.load(path)
    with pytest.raises(UsageError, match="no recipe file"):
        Recipe.load(tmp_path / "absent.toml")


def test_too_few_images_are_refused() -> None:
    with pytest.raises(UsageError, match="too few"):
        train(recipe(), np.zeros((20, 32, 32, 3), np.uint8), np.zeros(20, np.int64))
