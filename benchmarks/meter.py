"""What the meter and the referee cost: python benchmarks/meter.py [MODEL].

PGD on the first images of the sample, the model bare and inside a meter, alternating in one process on one thread. The ratio is of
processor time; its median and quartiles over the pairs are printed.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
from torch import nn

from harness import attacks, datasets
from harness.evaluation.meter import Meter
from harness.evaluation.referee import judge, predict
from model_zoo.loading import load_model
from model_zoo.threat import ThreatModel

MODEL = "cifar10-rn8w32-pruned-binary-k05-p01"
IMAGES, PAIRS = 100, 11


def main() -> None:
    """Measure."""
    torch.set_num_threads(1)
    name = sys.argv[1] if len(sys.argv) > 1 else MODEL
    model, threat, spec = load_model(name), ThreatModel.parse("Linf 8/255"), attacks.get("pgd")
    x, y = datasets.load("cifar10-sample").first(IMAGES).tensors()
    right = predict(model, x) == y
    x, y = x[right].contiguous(), y[right]

    def run(metered: bool) -> float:
        begun = time.process_time()
        victim: nn.Module = Meter(model, x, y, threat) if metered else model
        result = attacks.run(spec, victim, x, y, threat, 0, classes=10)
        if metered:
            judge(model, x, result.adversarial, y, threat)
        return time.process_time() - begun

    run(True)
    ratios = [run(True) / run(False) if pair % 2 else 1 / (run(False) / run(True)) for pair in range(PAIRS)]
    low, median, high = np.percentile(ratios, [25, 50, 75])
    sys.stdout.write(f"{name}, PGD-50 on {len(x)} images: metered and refereed over bare {median:.4f} [{low:.4f}, {high:.4f}]\n")


if __name__ == "__main__":
    main()
