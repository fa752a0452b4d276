"""Weights of eight bits: q s with integers q in -127..127 and one float32 s for every output channel, as int8 networks compute with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEVELS = 127


def levels_and_scales(weights: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """Levels int8 of all weights and scales float32 of all output channels, one after the other; None where some weight is not q s exactly.

    Parameters
    ----------
    weights : sequence of np.ndarray
        Float32, the output channel first.
    """
    levels, scales = [], []
    for array in weights:
        rows = array.reshape(array.shape[0], -1)
        found = _layer(rows)
        if found is None:
            return None
        levels.append(found[0])
        scales.append(found[1])
    return np.concatenate([part.reshape(-1) for part in levels]), np.concatenate(scales)


def restore(levels: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Inverse for one layer: flat float32, the weights of a channel next to each other; a ValueError where they do not fit."""
    if len(scales) == 0 or levels.size % len(scales):
        raise ValueError(f"{levels.size} weights do not fall into {len(scales)} channels")
    return (levels.reshape(len(scales), -1).astype(np.float32) * scales[:, None]).reshape(-1)


def _layer(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    base = np.abs(rows).max(1).astype(np.float32) / np.float32(LEVELS)
    levels = np.zeros(rows.shape, np.int8)
    scales = np.zeros(len(rows), np.float32)
    left = np.ones(len(rows), bool)
    # The largest weight is 127 s, rounded: s is the quotient or a neighbour of it.
    for scale in (base, np.nextafter(base, np.float32(np.inf)), np.nextafter(base, np.float32(0.0))):
        safe = np.where(scale > 0, scale, np.float32(1.0)).astype(np.float32)
        tried = np.rint(rows / safe[:, None]).clip(-LEVELS, LEVELS).astype(np.float32)
        fits = left & (tried * safe[:, None] == rows).all(1)
        levels[fits], scales[fits] = tried[fits].astype(np.int8), safe[fits]
        left &= ~fits
    return None if left.any() else (levels, scales)
