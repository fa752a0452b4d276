"""Eight-bit weights q s, as int8 networks use them: integers q in -127..127 and one float32 scale s per output channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEVELS = 127


def levels_and_scales(weights: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the int8 levels of all weights and the float32 scales of all output channels, both flat, layer after layer.

    Returns None if any weight is not exactly q s.

    Parameters
    ----------
    weights : sequence of np.ndarray
        Float32 weights of each layer, [out, ...].
    """
    levels, scales = [], []
    for array in weights:
        rows = array.reshape(array.shape[0], -1)
        quantised = _quantise(rows)
        if quantised is None:
            return None
        levels.append(quantised[0])
        scales.append(quantised[1])
    return np.concatenate([part.reshape(-1) for part in levels]), np.concatenate(scales)


def restore(levels: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return one layer's weights, flat float32 with the weights of a channel contiguous, from flat int8 levels and scales [out].

    Raises a ValueError if the number of levels is not a multiple of the number of scales.
    """
    if len(scales) == 0 or levels.size % len(scales):
        raise ValueError(f"{levels.size} weights cannot be divided among {len(scales)} channels")
    return (levels.reshape(len(scales), -1).astype(np.float32) * scales[:, None]).reshape(-1)


def _quantise(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    base = np.abs(rows).max(1).astype(np.float32) / np.float32(LEVELS)
    levels = np.zeros(rows.shape, np.int8)
    scales = np.zeros(len(rows), np.float32)
    is_unsolved = np.ones(len(rows), bool)
    # The largest weight is 127 s after rounding, so s is the quotient or one of its float32 neighbours.
    for scale in (base, np.nextafter(base, np.float32(np.inf)), np.nextafter(base, np.float32(0.0))):
        divisor = np.where(scale > 0, scale, np.float32(1.0)).astype(np.float32)
        rounded = np.rint(rows / divisor[:, None]).clip(-LEVELS, LEVELS).astype(np.float32)
        fits = is_unsolved & (rounded * divisor[:, None] == rows).all(1)
        levels[fits], scales[fits] = rounded[fits].astype(np.int8), divisor[fits]
        is_unsolved &= ~fits
    return None if is_unsolved.any() else (levels, scales)
