"""Diagnostics of one model on one block of images: measurements from which `verdict` judges whether its robustness is real."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar

import torch
from pydantic import ConfigDict, TypeAdapter

from harness import attacks
from harness.attacks.native.losses import LOSSES, Loss, cross_entropy, margin
from harness.datasets.base import ImageSet
from harness.evaluation import thresholds
from harness.evaluation.outcomes import near_constant
from harness.evaluation.probes import Ascent, ascend, logit_scale, survives_noise, zero_gradient
from harness.evaluation.referee import predict
from harness.evaluation.subject import Subject
from harness.evaluation.unit import attack_block
from harness.randomness import isolated
from harness.threats import LINF
from model_zoo.errors import UsageError
from model_zoo.threat import ThreatModel, exact_fraction

VERSION = 2
# RayS runs on at most this many images: the first ones that survive all other probes.
DECISION_IMAGES = 64
NOISE_DRAWS = 20
# Radii of the sweep, in 255ths; at the largest one an attack must break nearly all images.
SWEEP = (0, 1, 2, 4, 8, 16, 32, round(255 * thresholds.LARGE_RADIUS.value))
# One character per image.
ROBUST, BROKEN, NOT_TESTED = "1", "0", "-"
# Probes that ascend losses of the network itself; an image that withstands them all counts as robust to white-box attacks.
WHITE_BOX = ("ce", "margin")


@dataclass(frozen=True)
class Effort:
    """Steps of the gradient probes, and queries per image of Square and RayS; verdicts are calibrated for the defaults."""

    steps: int = 50
    sweep_steps: int = 20
    square_queries: int = 1000
    decision_queries: int = 1000


@dataclass(frozen=True)
class Diagnostics:
    """Measurements on a block of images.

    Strings have one character per image: "1", "0", or "-" if the image was not tested. Images that the model misclassifies without an
    attack are never tested.

    Attributes
    ----------
    predictions : tuple of int
        Predicted classes of the clean images.
    median_gap, saturated : float
        See `probes.LogitScale`.
    no_gradient : dict
        For "ce", "margin" and (with more than two classes) "dlr": "1" if the gradient is exactly zero at the image and at a random start.
    robust : dict
        For each probe, "1" if the image stays correctly classified: PGD on the cross-entropy ("ce") and on the margin ("margin"), PGD
        down the margin ("descent"), "square" alone, random "noise", examples made on other models ("transfer"; absent if there are
        none), and RayS on images that survive all of these ("decision").
    rising : str
        For images robust to PGD on the margin: "1" if the loss still rose at the end.
    sweep : dict
        For each radius (a fraction, as text), "1" if the image withstands PGD on both losses.
    sources : tuple of str
        Models on which the transferred examples were made.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    predictions: tuple[int, ...]
    median_gap: float
    saturated: float
    no_gradient: dict[str, str]
    robust: dict[str, str]
    rising: str
    sweep: dict[str, str]
    sources: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.predictions)

    @property
    def n(self) -> int:
        """Number of images that the model classifies correctly without an attack."""
        return self.images - self.robust["ce"].count(NOT_TESTED)

    @property
    def near_constant(self) -> bool:
        """Whether one class is at least half of the predictions on 30 or more clean images: such a model ignores most of its input."""
        return near_constant(list(self.predictions))

    def share(self, marks: str) -> float:
        """Return the share of "1" among the tested images of a string; 0.0 if none was tested."""
        tested = len(marks) - marks.count(NOT_TESTED)
        return marks.count("1") / tested if tested else 0.0

    def first(self, n: int) -> Diagnostics:
        """Return the diagnostics of the first `n` images; `median_gap`, `saturated` and the choice of images for RayS do not change."""

        def cut(measured: Mapping[str, str]) -> dict[str, str]:
            return {name: marks[:n] for name, marks in measured.items()}

        return replace(
            self,
            predictions=self.predictions[:n],
            no_gradient=cut(self.no_gradient),
            robust=cut(self.robust),
            rising=self.rising[:n],
            sweep=cut(self.sweep),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the diagnostics as plain JSON values."""
        return {**asdict(self), "predictions": " ".join(map(str, self.predictions)), "sources": list(self.sources)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Diagnostics:
        """Return the diagnostics from the result of `to_dict`.

        Raises
        ------
        ValueError
            If a field is missing, unknown, of another type, or of other images.
        """
        predictions = plain.get("predictions")
        if not isinstance(predictions, str):
            raise ValueError("predictions are not text")
        fields = {**plain, "predictions": [int(number) for number in predictions.split()]}
        measured = _CHECKED.validate_json(json.dumps(fields), strict=True)
        strings = (measured.rising, *(text for group in (measured.no_gradient, measured.robust, measured.sweep) for text in group.values()))
        if {"ce", "margin"} - set(measured.robust) or not measured.sweep:
            raise ValueError("measurements are missing")
        if any(len(text) != measured.images or set(text) - set("01-") for text in strings):
            raise ValueError("measurements do not have one character (0, 1 or -) per image")
        for radius in measured.sweep:
            exact_fraction(radius)
        return measured


# Unknown fields are refused, and numbers are finite.
_CHECKED = TypeAdapter(Diagnostics)


def diagnose(
    subject: Subject,
    block: ImageSet,
    threat: ThreatModel,
    seed: int,
    transferred: Mapping[str, list[torch.Tensor]] | None = None,
    progress: Callable[[float, str], None] | None = None,
    effort: Effort = Effort(),
) -> Diagnostics:
    """Measure a model under an Linf threat model.

    Parameters
    ----------
    subject : Subject
        The model, which has passed the gates.
    block : ImageSet
        N images.
    seed : int
        Unsigned 64-bit.
    transferred : mapping, optional
        For each other model, by name, the examples made on it, float32 [N, C, H, W] each.
    progress : callable, optional
        Called with the fraction done and the name of the current measurement.
    effort : Effort
        Length of the probes.

    Raises
    ------
    UsageError
        If the threat model has another norm, or the model misclassifies all images.
    """
    if threat.norm != "Linf":
        raise UsageError(f"diagnostics need an Linf threat model, not {threat}")
    report = progress or (lambda fraction, component: None)
    images, labels = block.tensors()
    model, predictions = subject.attacked, predict(subject.judged, images)
    is_correct = predictions == labels
    if not is_correct.any():
        raise UsageError(f"nothing to diagnose: the model classifies none of {len(images)} images correctly")
    x, y = images[is_correct].contiguous(), labels[is_correct]
    epsilon, attack_seed = threat.epsilon, seed % 2**32
    robust: dict[str, torch.Tensor] = {}

    def climb(loss: Loss, steps: int, radius: float = epsilon) -> Ascent:
        return ascend(model, x, y, radius, loss, steps, attack_seed)

    with isolated(seed):
        report(0.0, "gradients")
        start = (x + LINF.noise(x.shape, epsilon)).clamp(0.0, 1.0)
        losses = {name: loss for name, loss in LOSSES.items() if name != "dlr" or len(block.classes) > 2}
        no_gradient = {name: zero_gradient(model, x, y, loss) & zero_gradient(model, start, y, loss) for name, loss in losses.items()}
        scale = logit_scale(model, x)
        report(0.05, "pgd on the cross-entropy")
        robust["ce"] = climb(cross_entropy, effort.steps).robust
        report(0.15, "pgd on the margin")
        ascent = climb(margin, effort.steps)
        robust["margin"] = ascent.robust
        report(0.25, "pgd down the margin")
        robust["descent"] = climb(lambda logits, expected: -margin(logits, expected), effort.steps).robust
        report(0.35, "square")
        correct = block.take(is_correct.numpy())
        robust["square"] = survives(subject, correct, threat, seed, "square", {"square_n_queries": effort.square_queries})
        report(0.6, "noise")
        robust["noise"] = survives_noise(model, x, y, epsilon, NOISE_DRAWS, attack_seed)
        if transferred:
            examples = [batch for batches in transferred.values() for batch in batches]
            robust["transfer"] = torch.stack([predict(model, batch[is_correct].contiguous()) == y for batch in examples]).all(0)
        report(0.65, "decisions alone")
        decision_rows = torch.stack(list(robust.values())).all(0).nonzero().flatten()[:DECISION_IMAGES]
        by_decision = torch.ones(len(x), dtype=torch.bool)
        decision_block = correct.take(decision_rows.numpy())
        by_decision[decision_rows] = survives(subject, decision_block, threat, seed, "rays", {"queries": effort.decision_queries})
        sweep = {}
        for position, radius in enumerate(SWEEP):
            report(0.75 + 0.25 * position / len(SWEEP), f"radius {radius}/255")
            robust_masks = [climb(loss, effort.sweep_steps, radius / 255).robust for loss in (cross_entropy, margin)]
            sweep[str(Fraction(radius, 255))] = robust_masks[0] & robust_masks[1]

    def marks(values: torch.Tensor, tested: torch.Tensor | None = None) -> str:
        """Return one character per image; `values` and `tested` (all by default) cover the correctly classified images only."""
        mask = torch.ones_like(values) if tested is None else tested
        digits = iter("01"[value] if is_tested else NOT_TESTED for value, is_tested in zip(values.tolist(), mask.tolist(), strict=True))
        return "".join(next(digits) if is_right else NOT_TESTED for is_right in is_correct.tolist())

    is_chosen = torch.zeros(len(x), dtype=torch.bool)
    is_chosen[decision_rows] = True
    return Diagnostics(
        predictions=tuple(predictions.tolist()),
        median_gap=scale.median_gap,
        saturated=scale.saturated,
        no_gradient={name: marks(values) for name, values in no_gradient.items()},
        robust={**{name: marks(values) for name, values in robust.items()}, "decision": marks(by_decision, is_chosen)},
        rising=marks(ascent.rising, robust["margin"]),
        sweep={radius: marks(values) for radius, values in sweep.items()},
        sources=tuple(transferred or ()),
    )


def survives(subject: Subject, block: ImageSet, threat: ThreatModel, seed: int, attack: str, changes: Mapping[str, Any]) -> torch.Tensor:
    """Return, as bool [N], which images withstand a named attack with some of its parameters changed, according to the referee."""
    if not len(block):
        return torch.ones(0, dtype=torch.bool)
    spec = attacks.get(attack)
    outcome = attack_block(subject, block, threat, replace(spec, parameters={**spec.parameters, **changes}), seed)
    return torch.from_numpy(outcome.frame["robust"].to_numpy(dtype=bool, copy=True))
