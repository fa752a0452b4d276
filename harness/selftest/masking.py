"""Models whose gradients do not lead to their adversarial images, and honest ones, which the diagnostics must distinguish.

Each kind of fault is a function of an instance number, so that `benchmarks/verdict_power.py` can plant twenty of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from harness import datasets
from harness.datasets.base import ImageSet
from harness.evaluation.diagnostics import Diagnostics, diagnose
from harness.evaluation.subject import admit
from harness.evaluation.verdict import judge
from harness.selftest import Case, Finding
from harness.selftest.hostile import BorrowedLogits, FallingMargin
from harness.selftest.toys import THREAT, block, defended, sign, toy, undefended
from model_zoo.loading import load_model
from model_zoo.threat import ThreatModel

CONTROL_IMAGES, CONVOLUTION_IMAGES = 60, 100
CIFAR = ThreatModel.parse("Linf 8/255")


@dataclass(frozen=True)
class Kind:
    """A kind of planted fault.

    Attributes
    ----------
    pitfall : int
        Its number in docs/pitfalls.md.
    make, honest : callable
        Return, for instance 0, 1, ..., the faulty network, and a network with the same predictions whose gradients lead to its adversarial
        images, so that its robust accuracy is the true one.
    threat : ThreatModel
        The threat model that it is attacked under.
    """

    pitfall: int
    name: str
    make: Callable[[int], nn.Module]
    honest: Callable[[int], nn.Module]
    threat: ThreatModel


def _log_spread(instance: int, low: float, high: float) -> float:
    """Return a number between `low` and `high`, spread evenly in logarithm over instances; instance 0 has their geometric mean."""
    return float(low * (high / low) ** ((0.5 + 0.618034 * instance) % 1))


def _reversing_signs(instance: int) -> torch.Tensor:
    """Return signs [256] that reverse the gradient of half of the hidden units."""
    permutation = torch.randperm(256, generator=torch.Generator().manual_seed(instance))
    return torch.where(permutation % 2 == 0, 1.0, -1.0)


def _borrowed_logits(instance: int) -> nn.Module:
    sharpness = None if instance % 2 == 0 else _log_spread(instance, 10.0, 100.0)
    # Every tenth instance shows the logits of a model that ships.
    shown_network = load_model("cifar10-rn8s29-dense") if instance % 10 == 9 else defended(instance // 2 % 2)
    return BorrowedLogits(undefended(instance), shown_network, sharpness, 20.0).eval()


def _relu_toy(instance: int) -> nn.Module:
    return toy("relu", seed=instance)


def _sign_toy(instance: int) -> nn.Module:
    return toy("sign", seed=instance)


def _large_logits(instance: int) -> nn.Module:
    return toy("relu", scale=_log_spread(instance, 50, 200), seed=instance)


def _no_gradient(instance: int) -> nn.Module:
    return toy("sign", sign(0.0), seed=instance)


def _clipped_gradient(instance: int) -> nn.Module:
    return toy("sign", sign(_log_spread(instance, 0.001, 0.004)), seed=instance)


def _misleading_gradient(instance: int) -> nn.Module:
    return toy("sign", sign(9.0, _reversing_signs(instance)), seed=instance)


def _falling_margin(instance: int) -> nn.Module:
    return FallingMargin(undefended(instance), _log_spread(instance, 2.0, 20.0)).eval()


KINDS = (
    Kind(1, "logits 100 times too large", _large_logits, _relu_toy, THREAT),
    Kind(3, "sign activations with their true gradient, zero", _no_gradient, _sign_toy, THREAT),
    Kind(4, "straight-through gradient clipped to a narrow window", _clipped_gradient, _sign_toy, THREAT),
    Kind(5, "a surrogate gradient that points the wrong way in half of the units", _misleading_gradient, _sign_toy, THREAT),
    Kind(21, "logits of a robust network over the class of an undefended one", _borrowed_logits, undefended, CIFAR),
    Kind(22, "a margin that rises as the true one falls", _falling_margin, undefended, CIFAR),
)


def measured(model: nn.Module, block: ImageSet, threat: ThreatModel) -> Diagnostics:
    """Return the diagnostics of a network without related models to transfer attacks from: the hardest case."""
    return diagnose(admit(model, block), block, threat, 0)


def _finding(diagnostics: Diagnostics) -> Finding:
    """Return the finding of the verdict, with the robust accuracy that plain PGD-CE would have printed."""
    verdict = judge(diagnostics)
    return Finding(verdict.level != "ok", str(verdict), diagnostics.robust["ce"].count("1") / diagnostics.images)


def planted(make: Callable[[], nn.Module], threat: ThreatModel = THREAT) -> Callable[[], Finding]:
    """Return a case that plants a network; slow convolutional networks, those attacked under `CIFAR`, get fewer images."""
    attacked_images = block().first(CONVOLUTION_IMAGES) if threat == CIFAR else block()
    return lambda: _finding(measured(make(), attacked_images, threat))


def registered(model: str) -> Callable[[], Finding]:
    """Return a control: a registered model on the first images of the sample."""
    return lambda: _finding(measured(load_model(model), datasets.load("cifar10-sample").first(CONTROL_IMAGES), CIFAR))


HONEST: Mapping[str, Callable[[], Finding]] = {
    "ReLU network, not adversarially trained": planted(lambda: toy("relu")),
    "sign activations with a straight-through gradient": planted(lambda: toy("sign")),
    "three convolutions, not adversarially trained": planted(undefended, CIFAR),
    "dense float32, adversarially trained": registered("cifar10-rn8s29-dense"),
    "dense binary, adversarially trained": registered("cifar10-rn8w32-dense-binary"),
    "pruned binary, adversarially trained": registered("cifar10-rn8w32-pruned-binary-k05-p01"),
}
CASES = (
    *(Case(kind.pitfall, kind.name, "model", planted(lambda kind=kind: kind.make(0), kind.threat)) for kind in KINDS),  # type: ignore[misc]
    *(Case(0, name, "control", run) for name, run in HONEST.items()),
)
