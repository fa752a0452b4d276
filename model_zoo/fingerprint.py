"""Fingerprint of a network: its output on fixed images, used to notice that two networks share one identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

IMAGES = 16
# Number of random directions along which gradients are measured.
DIRECTIONS = 8
# Largest difference as a share of the numbers' range, which SPARED images may exceed: machines round differently, and rounding flips steps.
TOLERANCE = 1e-3
SPARED = 2
_SEED = 0xF19E_2B11

Fingerprint = Mapping[str, Sequence[Sequence[float]]]


def fingerprint(model: nn.Module, size: int, channels: int = 3) -> Fingerprint:
    """Return logits and gradients on `IMAGES` fixed images [channels, size, size], computed in float32 on the CPU with one thread.

    Returns
    -------
    mapping
        "logits": `IMAGES` rows of logits; "gradients": `IMAGES` rows with the slope of a fixed weighted sum of the logits along each of
        `DIRECTIONS` fixed directions. Numbers have seven significant digits.
    """
    generator = torch.Generator().manual_seed(_SEED)
    coarse = torch.rand(IMAGES, channels, 4, 4, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    images = (smooth + 0.1 * torch.randn(IMAGES, channels, size, size, generator=generator)).clamp(0.0, 1.0).requires_grad_(True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.enable_grad():
            logits = model(images)
            weights = torch.randn(logits.shape[1], generator=generator)
            (gradient,) = torch.autograd.grad((logits * weights).sum(), images)
    finally:
        torch.set_num_threads(threads)
    directions = torch.randn(channels * size * size, DIRECTIONS, generator=generator)
    return {"logits": _rounded_rows(logits.detach()), "gradients": _rounded_rows(gradient.flatten(1) @ directions)}


def differs(one: Fingerprint, other: Fingerprint) -> bool:
    """Return whether two fingerprints belong to different networks."""
    return any(_differ(torch.tensor(one[name]), torch.tensor(other[name])) for name in ("logits", "gradients"))


def _differ(first: torch.Tensor, second: torch.Tensor) -> bool:
    if first.shape != second.shape:
        return True
    allowed = TOLERANCE * float(second.max() - second.min())
    return int(((first - second).abs().amax(1) > allowed).sum()) > SPARED


def _rounded_rows(values: torch.Tensor) -> list[list[float]]:
    plain: list[list[Any]] = values.nan_to_num().double().tolist()
    return [[float(f"{value:.7g}") for value in row] for row in plain]
