"""Tests that a stored run loads as the trained model, and that its record describes the training."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch

from model_zoo.classifier import Classifier
from model_zoo.layers.activations import SignSTE
from model_zoo.loading import load_model
from model_zoo.registry import read_record
from model_zoo.training.building import build_model
from model_zoo.training.outcome import keep
from model_zoo.training.trainer import train
from tests.model_zoo.training.tiny import SAMPLE, recipe


def test_a_stored_run_loads_as_the_trained_model(tmp_path: Path) -> None:
    chosen = recipe()
    trained = train(chosen, SAMPLE.images, SAMPLE.labels)
    record = keep(trained, chosen, tmp_path)
    assert read_record(tmp_path / "tiny.toml") == record
    assert (record.data.images, record.keep_ratio, record.training.epochs if record.training else None) == (500, 0.2, 2)
    assert (record.family, record.weight_bits, record.weight_init, record.selected_on) == ("pruned-binary", 1, "binary", "last epoch")
    assert (record.activation_bits, record.backward) == (32, "exact")
    loaded = load_model(str(tmp_path / "tiny.toml"))
    images, _ = SAMPLE.first(8).tensors()
    with torch.no_grad():
        assert torch.allclose(loaded(images), trained.model(images), atol=1e-5)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "tiny.csv").read_text())))
    assert [float(row["train_loss"]) for row in rows] == pytest.approx([epoch.train_loss for epoch in trained.curve], rel=1e-4)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".safetensors", ".toml"]


@pytest.mark.parametrize(
    ("kind", "family", "bits"),
    [("kaiming-normal", "sparse", 32), ("signed-constant", "pruned-binary", 1), ("signed-constant-scaled", "pruned-binary", 1)],
)
def test_records_of_other_initialisations(kind: str, family: str, bits: int, tmp_path: Path) -> None:
    chosen = recipe(top={"options": {"keep_ratio": 0.2, "allocation_power": 0.1, "weight_init": kind}}, epochs=1)
    trained = train(chosen, SAMPLE.images, SAMPLE.labels)
    record = keep(trained, chosen, tmp_path)
    assert (record.family, record.weight_bits, record.weight_init) == (family, bits, kind)
    loaded = load_model(str(tmp_path / "tiny.toml"))
    images, _ = SAMPLE.first(8).tensors()
    with torch.no_grad():
        assert torch.allclose(loaded(images), trained.model(images), atol=1e-4)


@pytest.mark.parametrize("family", ["dense", "pruned-binary"])
def test_a_network_with_binary_activations_is_trained_packed_and_loaded(family: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 30)
    # One colour per class, with noise.
    images = (generator.integers(0, 200, (10, 1, 1, 3))[labels] + generator.integers(0, 55, (300, 32, 32, 3))).astype(np.uint8)
    architecture = {**recipe().architecture, "activation": "sign-ste"}
    chosen = recipe(family, {"step": "2/255", "steps": 1, "threat": "Linf 2/255"}, {"architecture": architecture}, epochs=1, batch=20)
    before = build_model(chosen)
    trained = train(chosen, images, labels)
    assert trained.engine == "dense"
    parameter_pairs = zip(before.parameters(), trained.model.parameters(), strict=True)
    assert all(not torch.equal(old, new) for old, new in parameter_pairs)
    assert trained.curve[-1].hold_out_clean_accuracy > 0.2
    record = keep(trained, chosen, tmp_path)
    assert (record.architecture["activation"], record.activation_bits, record.backward) == ("sign-ste", 1, "ste")
    assert read_record(tmp_path / "tiny.toml") == record
    loaded = load_model(str(tmp_path / "tiny.toml"))
    assert isinstance(loaded, Classifier) and isinstance(loaded.network.activation, SignSTE)
    pixels = torch.from_numpy(images[:8]).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        assert torch.allclose(loaded(pixels), trained.model(pixels), atol=1e-5)


def test_selection_on_the_hold_out_is_recorded(tmp_path: Path) -> None:
    chosen = recipe(top={"select": "hold-out"})
    trained = train(chosen, SAMPLE.images, SAMPLE.labels)
    record = keep(trained, chosen, tmp_path)
    assert record.selected_on == "100 held-out training images, PGD-10"
    assert record.training is not None
    assert record.training.hold_out_pgd_accuracy == max(epoch.hold_out_pgd_accuracy for epoch in trained.curve)
