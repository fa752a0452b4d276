"""Diagnostics of one model on one block of images: measurements that say whether its robustness is real. `verdict` reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

import torch
from torch import nn

from harness import attacks
from harness.attacks.losses import LOSSES, cross_entropy, margin
from harness.evaluation import thresholds
from harness.evaluation.outcomes import near_constant
from harness.evaluation.probes import ascend, logit_scale, survives_noise, zero_gradient
from harness.evaluation.referee import predict
from harness.randomness import isolated
from model_zoo.errors import UsageError
from model_zoo.threat import ThreatModel

VERSION = 1
STEPS = 50
SWEEP_STEPS = 20
SQUARE_QUERIES = 1000
NOISE_DRAWS = 20
# Radii of the sweep, in 255ths, up to one at which an attack must break nearly all.
SWEEP = (0, 1, 2, 4, 8, 16, 32, round(255 * thresholds.LARGE_RADIUS.value))


@dataclass(frozen=True)
class Diagnostics:
    """What was measured on the `n` images that the model gets right, of `images` looked at. Lists hold one entry an image of those n.

    Attributes
    ----------
    near_constant : bool
        At least half of all predictions on clean images are one class: such a model "resists" by hardly looking.
    zero_gradient : dict
        For "ce", "margin" and "dlr": the share of images whose gradient is exactly zero, at the image and at a random start
        (the smaller of the two shares).
    median_gap, saturated : float
        See `probes.LogitScale`.
    robust_ce, robust_margin, robust_square, robust_noise, robust_transfer : list of bool
        Right after PGD on the cross-entropy, PGD on the margin, Square alone, random noise, and examples made on a twin
        (None where there is none).
    rising : float
        Share of images robust to PGD on the margin whose loss still rose at the end.
    sweep : dict
        For each radius (a fraction, as text) the images robust to both kinds of PGD.
    """

    images: int
    n: int
    near_constant: bool
    zero_gradient: dict[str, float]
    median_gap: float
    saturated: float
    robust_ce: list[bool]
    robust_margin: list[bool]
    robust_square: list[bool]
    robust_noise: list[bool]
    robust_transfer: list[bool] | None
    rising: float
    sweep: dict[str, list[bool]]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; a list of booleans becomes a string of 0 and 1."""
        plain = {item.name: getattr(self, item.name) for item in fields(self)}
        packed = {name: None if plain[name] is None else _digits(plain[name]) for name in _LISTS}
        return {**plain, **packed, "sweep": {radius: _digits(robust) for radius, robust in self.sweep.items()}}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Diagnostics:
        """Inverse of `to_dict`; a TypeError, KeyError or AttributeError where fields are missing, left over or of another kind."""
        unpacked = {name: None if plain[name] is None else _booleans(plain[name]) for name in _LISTS}
        return cls(**{**plain, **unpacked, "sweep": {radius: _booleans(robust) for radius, robust in plain["sweep"].items()}})


_LISTS = ("robust_ce", "robust_margin", "robust_square", "robust_noise", "robust_transfer")


def _digits(values: list[bool]) -> str:
    return "".join("01"[value] for value in values)


def _booleans(digits: str) -> list[bool]:
    return [digit == "1" for digit in digits]


def diagnose(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    threat: ThreatModel,
    seed: int,
    twin: nn.Module | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> Diagnostics:
    """Measure a model under an Linf threat model.

    Parameters
    ----------
    model : nn.Module
        Frozen, in eval mode; float32 [N, 3, H, W] in [0, 1] to logits [N, classes]. It has passed the gates.
    images, labels : torch.Tensor
        float32 [N, 3, H, W] and int64 [N].
    seed : int
        Unsigned 64-bit.
    twin : nn.Module, optional
        A full-precision model of the same task, to transfer from.

    Raises
    ------
    UsageError
        For another norm, or where the model gets no image right.
    """
    if threat.norm != "Linf":
        raise UsageError(f"diagnostics are for Linf threat models, and {threat} is not one")
    tell = progress or (lambda fraction, what: None)
    predictions = predict(model, images)
    right = predictions == labels
    if not right.any():
        raise UsageError(f"nothing to diagnose: the model gets none of {len(images)} images right")
    x, y = images[right].contiguous(), labels[right]
    epsilon = threat.epsilon
    with isolated(seed):
        tell(0.0, "gradients")
        start = (x + torch.empty(x.shape).uniform_(-epsilon, epsilon)).clamp(0.0, 1.0)
        with torch.no_grad():
            classes = model(x[:1]).shape[1]
        losses = {name: loss for name, loss in LOSSES.items() if name != "dlr" or classes > 2}
        zero = {name: min(float(zero_gradient(model, at, y, loss).float().mean()) for at in (x, start)) for name, loss in losses.items()}
        scale = logit_scale(model, x)
        tell(0.05, "pgd on the cross-entropy")
        by_ce = ascend(model, x, y, epsilon, cross_entropy, STEPS, seed % 2**32)
        tell(0.15, "pgd on the margin")
        by_margin = ascend(model, x, y, epsilon, margin, STEPS, seed % 2**32)
        tell(0.25, "square")
        by_square = square(model, x, y, threat, seed)
        tell(0.7, "noise")
        by_noise = survives_noise(model, x, y, epsilon, NOISE_DRAWS, seed % 2**32)
        transferred = None if twin is None else _transfer(model, twin, x, y, epsilon, seed % 2**32)
        sweep = {}
        for position, radius in enumerate(SWEEP):
            tell(0.75 + 0.25 * position / len(SWEEP), f"radius {radius}/255")
            both = [ascend(model, x, y, radius / 255, loss, SWEEP_STEPS, seed % 2**32).robust for loss in (cross_entropy, margin)]
            sweep[str(Fraction(radius, 255))] = (both[0] & both[1]).tolist()
    robust = int(by_margin.robust.sum())
    return Diagnostics(
        images=len(images),
        n=len(x),
        near_constant=near_constant(predictions.tolist()),
        zero_gradient=zero,
        median_gap=scale.median_gap,
        saturated=scale.saturated,
        robust_ce=by_ce.robust.tolist(),
        robust_margin=by_margin.robust.tolist(),
        robust_square=by_square.tolist(),
        robust_noise=by_noise.tolist(),
        robust_transfer=None if transferred is None else transferred.tolist(),
        rising=int(by_margin.rising.sum()) / robust if robust else 0.0,
        sweep=sweep,
    )


def square(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, threat: ThreatModel, seed: int) -> torch.Tensor:
    """For each image, bool [N]: right after Square alone (Andriushchenko et al. 2020), which uses no gradient."""
    spec = attacks.get("autoattack")
    changed = {"components": ["square"], "components_for_few_classes": ["square"], "square_n_queries": SQUARE_QUERIES}
    black_box = replace(spec, parameters={**spec.parameters, **changed})
    result = attacks.run(black_box, model, images, labels, threat, seed)
    return predict(model, result.adversarial) == labels


def _transfer(model: nn.Module, twin: nn.Module, images: torch.Tensor, labels: torch.Tensor, epsilon: float, seed: int) -> torch.Tensor:
    both = [ascend(model, images, labels, epsilon, loss, STEPS, seed, source=twin).robust for loss in (cross_entropy, margin)]
    return both[0] & both[1]
