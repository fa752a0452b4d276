"""Tests that weights of every kind are decoded exactly, and that the smallest suitable kind is chosen."""

from typing import Any

import numpy as np
import pytest

from model_zoo.packing.weights import decode, encode, value_bits

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
def test_weights_round_trip(weights: list[np.ndarray], kind: str, tensors: set[str]) -> None:
    header, stored = encode(weights)
    assert header["weights"] == kind and set(stored) == tensors
    decoded = decode(header, stored, [array.size for array in weights])
    assert not stored
    for array, actual in zip(weights, decoded, strict=True):
        assert actual.dtype == np.float32 and actual.tobytes() == array.reshape(-1).tobytes()


def test_a_layer_without_weights_round_trips() -> None:
    weights = masked(signs())
    weights[1][:] = 0.0
    header, stored = encode(weights)
    assert header["kept"][1] == 0
    assert not decode(header, stored, [array.size for array in weights])[1].any()


@pytest.mark.parametrize("change", [{"weights": "ternary"}, {"kept": [1, 1, 1]}, {"kept": [1, 1]}, {"weights": "signs"}])
def test_inconsistent_headers_are_errors(change: dict[str, Any]) -> None:
    weights = masked(signs())
    header, stored = encode(weights)
    with pytest.raises((ValueError, KeyError)):
        decode({**header, **change}, stored, [array.size for array in weights])


def eight_bit(share: float = 1.0) -> list[np.ndarray]:
    """Return weights like those of an int8 network: integer levels times one float32 per channel."""
    layers = []
    for shape in SHAPES:
        levels = GENERATOR.integers(-127, 128, shape) * (GENERATOR.random(shape) < share)
        levels[:, 0, 0, 0] = 127
        scales = GENERATOR.uniform(1e-4, 1e-2, (shape[0], 1, 1, 1)).astype(np.float32)
        layers.append(levels.astype(np.float32) * scales)
    return layers


@pytest.mark.parametrize(
    ("share", "kind", "names"),
    [(1.0, "int8", {"levels", "scales"}), (0.2, "pruned-int8", {"mask", "levels", "scales"})],
)
def test_eight_bit_weights_take_one_byte_each_and_one_float_per_channel(share: float, kind: str, names: set[str]) -> None:
    weights = eight_bit(share)
    header, stored = encode(weights)
    assert header["weights"] == kind and set(stored) == names
    kept = sum(int(np.count_nonzero(array)) for array in weights)
    assert stored["levels"].nbytes == (sum(array.size for array in weights) if share == 1.0 else kept)
    assert stored["scales"].nbytes == 4 * sum(len(array) for array in weights)
    for array, actual in zip(weights, decode(header, stored, [array.size for array in weights]), strict=True):
        assert actual.tobytes() == array.reshape(-1).tobytes()


def test_a_single_weight_between_two_levels_requires_float32() -> None:
    weights = eight_bit()
    weights[1][0, 1, 1, 1] *= np.float32(1.003)
    assert encode(weights)[0]["weights"] == "float32" and value_bits(weights) == (32, 0)


def test_inconsistent_levels_are_errors() -> None:
    header, stored = encode(eight_bit())
    for change in ({"channels": [4, 8, 9]}, {"channels": [5, 8, 10]}):
        with pytest.raises(ValueError):
            decode({**header, **change}, dict(stored), [int(np.prod(shape)) for shape in SHAPES])
    with pytest.raises(ValueError, match="int8"):
        decode(header, {**stored, "levels": stored["levels"].astype(np.float32)}, [int(np.prod(shape)) for shape in SHAPES])


def test_bits_per_kept_weight_by_kind() -> None:
    assert value_bits(masked(signs())) == (1, 0)
    # One float per layer: the constant of robust scratch tickets or the alpha of biprop.
    assert value_bits(scaled(masked(signs()))) == (1, 3 * 32)
    assert value_bits(masked(normal())) == (32, 0)
    assert value_bits(eight_bit(0.2)) == (8, 32 * sum(shape[0] for shape in SHAPES))
