"""Tests of masks and signs encoded as bytes."""

import math

import numpy as np
import pytest

from model_zoo.packing.codec import decode_masks, encode_masks, pack_signs, unpack_signs


def random_mask(size: int, kept: int, seed: int) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[np.random.default_rng(seed).choice(size, kept, replace=False)] = True
    return mask


def test_signs_round_trip_with_one_bit_each() -> None:
    signs = np.array([1, -1, -1, 1, 1, 1, -1, 1, -1], np.float32)
    packed = pack_signs(signs)
    assert packed.nbytes == 2
    assert np.array_equal(unpack_signs(packed, 9), signs)


def test_masks_of_several_layers_round_trip() -> None:
    masks = [random_mask(5000, 50, 0), random_mask(300, 300, 1), random_mask(40_000, 12_000, 2), random_mask(64, 1, 3)]
    words = encode_masks(masks)
    decoded = decode_masks(words, [mask.size for mask in masks], [int(mask.sum()) for mask in masks])
    assert all(np.array_equal(left, right) for left, right in zip(decoded, masks, strict=True))


def test_encoded_masks_are_within_two_per_cent_of_the_entropy() -> None:
    size, kept = 200_000, 2000
    share = kept / size
    entropy = size * -(share * math.log2(share) + (1 - share) * math.log2(1 - share)) / 8
    assert entropy <= encode_masks([random_mask(size, kept, 4)]).nbytes <= 1.02 * entropy + 8


def test_a_damaged_stream_is_detected() -> None:
    mask = random_mask(20_000, 2000, 5)
    words = encode_masks([mask])
    words[len(words) // 2] ^= 0xFFFF
    with pytest.raises(ValueError, match="mask"):
        decode_masks(words, [mask.size], [2000])
