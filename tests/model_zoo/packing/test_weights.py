"""Every kind of weights comes back bit for bit, and the kind is the smallest that holds them."""

from typing import Any

import numpy as np
import pytest

from model_zoo.packing.weights import decode, encode

GENERATOR = np.random.default_rng(0)
SHAPES = [(4, 3, 3, 3), (8, 4, 3, 3), (10, 8, 1, 1)]


def signs() -> list[np.ndarray]:
    return [np.where(GENERATOR.random(shape) < 0.5, -1.0, 1.0).astype(np.float32) for shape in SHAPES]


def masked(arrays: list[np.ndarray], share: float = 0.3) -> list[np.ndarray]:
    return [(array * (GENERATOR.random(array.shape) < share)).astype(np.float32) + np.float32(0) for array in arrays]


def normal() -> list[np.ndarray]:
    return [GENERATOR.standard_normal(shape).astype(np.float32) for shape in SHAPES]


def scaled(arrays: list[np.ndarray]) -> list[np.ndarray]:
    return [array * np.float32(scale) for array, scale in zip(arrays, (0.3, 1.0, 0.07), strict=True)]


@pytest.mark.parametrize(
    ("weights", "kind", "tensors"),
    [
        (signs(), "signs", {"signs"}),
        (masked(signs()), "pruned-signs", {"mask", "signs"}),
        (scaled(signs()), "signs", {"signs", "scales"}),
        (scaled(masked(signs())), "pruned-signs", {"mask", "signs", "scales"}),
        (normal(), "float32", {"dense"}),
        (masked(normal()), "pruned-float32", {"mask", "values"}),
        (masked(normal(), 0.99), "float32", {"dense"}),
    ],
)
def test_weights_come_back(weights: list[np.ndarray], kind: str, tensors: set[str]) -> None:
    header, stored = encode(weights)
    assert header["weights"] == kind and set(stored) == tensors
    back = decode(header, stored, [array.size for array in weights])
    assert not stored
    for array, found in zip(weights, back, strict=True):
        assert found.dtype == np.float32 and found.tobytes() == array.reshape(-1).tobytes()


def test_an_empty_layer_is_no_trouble() -> None:
    weights = masked(signs())
    weights[1][:] = 0.0
    header, stored = encode(weights)
    assert header["kept"][1] == 0
    assert not decode(header, stored, [array.size for array in weights])[1].any()


@pytest.mark.parametrize("change", [{"weights": "ternary"}, {"kept": [1, 1, 1]}, {"kept": [1, 1]}, {"weights": "signs"}])
def test_what_does_not_fit_is_an_error(change: dict[str, Any]) -> None:
    weights = masked(signs())
    header, stored = encode(weights)
    with pytest.raises((ValueError, KeyError)):
        decode({**header, **change}, stored, [array.size for array in weights])
