"""Compare RayS with foolbox's HopSkipJump, both on decisions only: python -m benchmarks.decision_attacks (needs `pip install foolbox`).

The target is an undefended network of three convolutions at Linf 8/255, with the first 32 images that it classifies correctly. Prints a
Markdown table.
"""

from __future__ import annotations

import sys

import foolbox
import torch
from torch import nn

from harness.attacks.native import pool
from harness.attacks.native.rays import RayS
from harness.selftest.toys import images, undefended

EPSILON, IMAGES = 8 / 255, 32


class Decisions(nn.Module):
    """Wrapper that returns only a network's decisions and counts the images that it was queried for."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.queries = model, 0
        self.eval()

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the predicted classes one-hot, float [N, 10]."""
        self.queries += len(batch)
        with torch.no_grad():
            return nn.functional.one_hot(self.model(batch).argmax(1), 10).float()


def main() -> None:
    """Run both attacks with increasing numbers of queries."""
    x, y = images()
    model = undefended()
    correct = (model(x).argmax(1) == y).nonzero().flatten()[:IMAGES]
    x, y = x[correct], y[correct]
    sys.stdout.write("| attack | queries an image | broken |\n| --- | ---: | ---: |\n")
    for queries in (300, 1000, 3000):
        victim = Decisions(model)
        result = pool.run(RayS(EPSILON, queries), "rays", victim, x, y, model(x), torch.arange(len(x)), 0, len(x))
        sys.stdout.write(f"| RayS | {victim.queries / len(x):.0f} | {int(result.broken.sum())} of {len(x)} |\n")
    for steps in (4, 8, 16):
        victim = Decisions(model)
        start = foolbox.attacks.LinearSearchBlendedUniformNoiseAttack(steps=50)
        attack = foolbox.attacks.HopSkipJumpAttack(
            start, steps=steps, initial_gradient_eval_steps=50, max_gradient_eval_steps=200, constraint="linf"
        )
        torch.manual_seed(0)
        raw, _, _ = attack(foolbox.PyTorchModel(victim, bounds=(0, 1), device="cpu"), x, y, epsilons=None)
        broken = ((raw - x).abs().flatten(1).amax(1) <= EPSILON + 1e-6) & (model(raw).argmax(1) != y)
        sys.stdout.write(f"| HopSkipJump, {steps} steps | {victim.queries / len(x):.0f} | {int(broken.sum())} of {len(x)} |\n")


if __name__ == "__main__":
    main()
