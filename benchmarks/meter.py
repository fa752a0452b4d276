"""Cost of the meter and the referee: python benchmarks/meter.py [MODEL ...].

Attacks the first images of the sample on one thread. A metered and an unmetered run differ by less than two runs of one kind do, so the
meter's work is timed directly. Prints the shares of the meter and of the referee in one run's processor time.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
from torch import nn

from harness import attacks, datasets
from harness.attacks import AttackCall
from harness.evaluation.meter import Meter
from harness.evaluation.referee import judge, predict
from model_zoo.loading import load_model
from model_zoo.threat import ThreatModel

MODELS = ("cifar10-rn8w32-pruned-binary-k05-p01", "cifar10-rn8s29-dense-binary", "cifar10-rn8w28-dense")
# Images in a block of the protocol.
IMAGES = 250


class Clocked(nn.Module):
    """Wrapper that adds up the processor time of a module's forward passes."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.seconds = module, 0.0
        self.train(module.training)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the module's output."""
        begun = time.process_time()
        logits: torch.Tensor = self.module(images)
        self.seconds += time.process_time() - begun
        return logits


class ClockedMeter(Meter):
    """Meter that also adds up the time of its work when a gradient comes back."""

    backward_seconds = 0.0

    def _count_backward(self, counts: np.ndarray) -> None:
        begun = time.process_time()
        super()._count_backward(counts)
        self.backward_seconds += time.process_time() - begun


def main() -> None:
    """Measure and print the shares per model and attack."""
    torch.set_num_threads(1)
    threat = ThreatModel.parse("Linf 8/255")
    for name in sys.argv[1:] or MODELS:
        x, y = datasets.load("cifar10-sample").first(IMAGES).tensors()
        right = predict(load_model(name), x) == y
        x, y = x[right].contiguous(), y[right]
        for attack in ("pgd", "cw-linf"):
            inner = Clocked(load_model(name))
            meter = ClockedMeter(inner, x, y, threat)
            outer = Clocked(meter)
            begun = time.process_time()
            result = attacks.run(attacks.get(attack), AttackCall(outer, x, y, threat, 0), classes=10)
            attacked = time.process_time()
            judge(inner.module, x, result.adversarial, y, threat)
            ended = time.process_time()
            metered = (outer.seconds - inner.seconds + meter.backward_seconds) / (ended - begun)
            refereed = (ended - attacked) / (ended - begun)
            sys.stdout.write(f"{name}, {attack} on {len(x)} images: meter {100 * metered:.2f} %, referee {100 * refereed:.2f} %\n")


if __name__ == "__main__":
    main()
