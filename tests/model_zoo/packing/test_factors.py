"""Tests of packed factored networks: a file contains factors, codebooks and masks only, and inconsistent content is an error."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model_zoo.errors import UsageError
from model_zoo.footprint import measure
from model_zoo.layers.factored import FactoredConv2d, Factors
from model_zoo.packing.factors import decode_factors, encode_factors
from model_zoo.packing.frozen import dense_weights, freeze
from model_zoo.packing.packed import load_packed, pack
from model_zoo.training.recipe import Recipe
from model_zoo.training.trained import Trained
from tests.model_zoo.families.runs import tiny, train_tiny

GENERATOR = np.random.default_rng(0)
SHAPES = [(4, 3, 3, 3), (30, 2, 3, 3), (10, 8, 1, 1)]


def random_factor(shape: tuple[int, int], values: int, share: float = 0.3) -> np.ndarray:
    codebook = GENERATOR.standard_normal(max(values, 1)).astype(np.float32)
    entries = codebook[GENERATOR.integers(0, max(values, 1), shape)]
    return np.where((GENERATOR.random(shape) < share) & (values > 0), entries, np.float32(0.0)).astype(np.float32)


def layers() -> list[Factors]:
    return [
        Factors(random_factor((4, 4), 3), random_factor((4, 27), 15), random_factor((4, 27), 7)),
        # A codebook with one value, an empty one, and one whose codes end within a byte.
        Factors(random_factor((30, 18), 1), random_factor((18, 18), 0), random_factor((30, 18), 5)),
        Factors(random_factor((10, 8), 15), random_factor((8, 8), 2), random_factor((10, 8), 255, 1.0)),
    ]


def test_factors_round_trip_bit_for_bit() -> None:
    original = layers()
    header, tensors = encode_factors(original)
    assert set(tensors) == {"mask", "codebooks", "codes"} and header["values"][4] == 0
    decoded = decode_factors(header, tensors, SHAPES)
    assert not tensors
    for actual, source in zip(decoded, original, strict=True):
        for part, expected in zip(actual.tensors(), source.tensors(), strict=True):
            assert part.dtype == np.float32 and part.tobytes() == expected.tobytes()


@pytest.mark.parametrize("change", [{"values": [1] * 9}, {"kept": [1] * 9}, {"values": [3, 15]}, {"kept": None}])
def test_inconsistent_headers_are_errors(change: dict[str, Any]) -> None:
    header, tensors = encode_factors(layers())
    with pytest.raises((ValueError, TypeError)):
        decode_factors({**header, **change}, tensors, SHAPES)


@pytest.fixture(scope="module")
def run() -> tuple[Recipe, Trained]:
    recipe = tiny("atmc")
    return recipe, train_tiny(recipe)


def test_the_file_size_matches_the_stored_content(run: tuple[Recipe, Trained], tmp_path: Path) -> None:
    recipe, result = run
    frozen = freeze(result.model, recipe.architecture, True)
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(pack(frozen, recipe.architecture, True, {"id": "tiny"}))
    packed = load_packed(path)
    assert (packed.header["weights"], packed.header["version"]) == ("factors", 3)
    footprint = measure(packed.model, path)
    assert footprint.entropy_bytes is not None and footprint.bitmap_bytes is not None
    kept, values = sum(packed.header["kept"]), sum(packed.header["values"])
    # At most three bits per nonzero, four bytes per value, and the masks of all three factors.
    total = sum(part.numel() for layer in result.model.modules() if isinstance(layer, FactoredConv2d) for part in layer.factors())
    assert footprint.bitmap_bytes <= (total + 3 * kept + 32 * values) / 8 + 1
    assert footprint.bitmap_bytes > (total + 2 * kept) / 8
    assert footprint.entropy_bytes < footprint.bitmap_bytes
    assert 0 < footprint.file_bytes - footprint.entropy_bytes - footprint.batch_norm_bytes < 2500
    # The product of the factors would take far more bytes.
    plain = freeze(result.model, recipe.architecture, True)
    for layer in plain.modules():
        if hasattr(layer, "factors"):
            del layer.factors
    assert len(pack(plain, recipe.architecture, True, {"id": "tiny"})) > 2 * footprint.file_bytes


def test_factors_that_contradict_the_weights_are_an_error(run: tuple[Recipe, Trained]) -> None:
    recipe, result = run
    frozen = freeze(result.model, recipe.architecture, True)
    with torch.no_grad():
        dense_weights(frozen)[3][0, 0, 0, 0] += 1.0
    with pytest.raises(UsageError, match="not the product of its factors"):
        pack(frozen, recipe.architecture, True, {"id": "tiny"})
