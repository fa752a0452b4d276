"""Tests of eight-bit weights: at most 255 levels per output channel, straight-through gradient, one byte per weight in the file."""

from pathlib import Path

import numpy as np
import torch

from model_zoo.families.int8 import Int8Conv2d
from model_zoo.footprint import measure
from model_zoo.packing.frozen import effective_weights, freeze
from model_zoo.packing.packed import load_packed, pack
from model_zoo.training.building import build_model
from tests.model_zoo.families.runs import tiny, train_tiny


def test_a_channel_has_at_most_255_multiples_of_one_step() -> None:
    layer = Int8Conv2d(64, 16, 7)
    rounded = layer.effective_weight().detach()
    for row, real in zip(rounded.flatten(1), layer.weight.detach().flatten(1), strict=True):
        levels = row.unique()
        assert 200 < len(levels) <= 255
        step = float(real.abs().max()) / 127.0
        assert float((row - real).abs().max()) <= 0.5001 * step
        assert torch.allclose(levels / step, (levels / step).round(), atol=1e-3)
    slope = torch.randn(layer.weight.shape)
    (layer.effective_weight() * slope).sum().backward()
    assert layer.weight.grad is not None and torch.equal(layer.weight.grad, slope)


def test_a_channel_of_zeros_stays_zero() -> None:
    layer = Int8Conv2d(2, 2, 3)
    with torch.no_grad():
        layer.weight[0] = 0.0
    assert not layer.effective_weight()[0].any() and bool(torch.isfinite(layer.effective_weight()).all())


def test_the_file_has_one_byte_per_weight(tmp_path: Path) -> None:
    recipe = tiny("int8")
    result = train_tiny(recipe)
    with torch.no_grad():
        next(layer for layer in result.model.modules() if isinstance(layer, Int8Conv2d)).weight[0] = 0.0
    frozen = freeze(result.model, recipe.architecture, True)
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(pack(frozen, recipe.architecture, True, {"id": "tiny"}))
    header = load_packed(path).header
    assert (header["weights"], header["version"]) == ("int8", 3)
    weights = effective_weights(frozen)
    for actual, expected in zip(effective_weights(load_packed(path).model), weights, strict=True):
        assert actual.tobytes() == expected.tobytes()
    footprint = measure(frozen, path)
    assert footprint.dense_eight_bit_bytes == sum(array.size + 4 * len(array) for array in weights)
    assert 0 < footprint.file_bytes - footprint.dense_eight_bit_bytes - footprint.batch_norm_bytes < 2000


def test_real_weights_are_stored_as_float32(tmp_path: Path) -> None:
    recipe = tiny("dense")
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(pack(build_model(recipe), recipe.architecture, True, {"id": "tiny"}))
    assert load_packed(path).header["weights"] == "float32"
    assert measure(freeze(build_model(recipe), recipe.architecture, True), path).dense_eight_bit_bytes is None
    assert np.isfinite(effective_weights(load_packed(path).model)[0]).all()
