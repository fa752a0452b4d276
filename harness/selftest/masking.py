"""Models whose gradients do not lead to their adversarial images, and honest ones beside them: what the diagnostics must tell apart."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from harness import datasets
from harness.evaluation.diagnostics import diagnose
from harness.evaluation.gates import check_model
from harness.evaluation.verdict import judge
from harness.selftest import Case, Finding
from harness.selftest.toys import THREAT, images, sign, toy
from model_zoo.loading import load_model
from model_zoo.threat import ThreatModel

CONTROL_IMAGES = 60


def diagnosed(model: nn.Module, x: torch.Tensor, y: torch.Tensor, threat: ThreatModel) -> Finding:
    """The verdict on a model, beside what plain PGD on the cross-entropy would have printed."""
    check_model(model, x, 10)
    found = diagnose(model, x, y, threat, 0)
    verdict = judge(found)
    return Finding(verdict.level != "ok", str(verdict), sum(found.robust_ce) / found.images)


def planted(make: Callable[[], nn.Module]) -> Callable[[], Finding]:
    """A case that plants a toy model."""
    return lambda: diagnosed(make(), *images(), THREAT)


def registered(model: str) -> Callable[[], Finding]:
    """A control: a registered model on the first images of the sample."""

    def run() -> Finding:
        x, y = datasets.load("cifar10-sample").first(CONTROL_IMAGES).tensors()
        return diagnosed(load_model(model), x, y, ThreatModel.parse("Linf 8/255"))

    return run


def _against() -> torch.Tensor:
    """Signs that lead half of the hidden units astray."""
    return torch.where(torch.arange(256) % 2 == 0, 1.0, -1.0)


CASES = (
    Case(1, "logits 100 times too large", "model", planted(lambda: toy("relu", scale=100.0))),
    Case(3, "sign activations with their true gradient, zero", "model", planted(lambda: toy("sign", sign(0.0)))),
    Case(4, "straight-through gradient clipped to a narrow window", "model", planted(lambda: toy("sign", sign(0.002)))),
    Case(
        5,
        "a surrogate gradient that points the wrong way in half of the units",
        "model",
        planted(lambda: toy("sign", sign(9.0, _against()))),
    ),
    Case(0, "ReLU network, not adversarially trained", "control", planted(lambda: toy("relu"))),
    Case(0, "sign activations with a straight-through gradient", "control", planted(lambda: toy("sign"))),
    Case(0, "dense float32, adversarially trained", "control", registered("cifar10-rn8s29-dense")),
    Case(0, "dense binary, adversarially trained", "control", registered("cifar10-rn8w32-dense-binary")),
    Case(0, "pruned binary, adversarially trained", "control", registered("cifar10-rn8w32-pruned-binary-k05-p01")),
)
