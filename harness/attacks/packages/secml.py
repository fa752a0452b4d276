"""Attacks of secml-torch that minimise the distance; they return the nearest adversarial example, inside the radius or not."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from harness.attacks.common import AttackCall, AttackResult
from harness.attacks.packages.facade import Facade, predict
from harness.attacks.passes import Passes
from harness.attacks.progress import counted
from harness.threats import NORMS

# The extra of this project that installs the package.
EXTRA = "minimum-norm"


class _CpuFacade(Facade):
    """Wrapper of `model` that takes and returns tensors on the CPU, where the package keeps its state whatever the model's device is."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        super().__init__(model, torch.device("cpu"))
        self.device = device

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of `images`, [N, K], both on the CPU."""
        return super().forward(images.to(self.device)).cpu()


def minimise(call: AttackCall, new_attack: Callable[[], Any], component: str, steps: int, batch_size: int) -> AttackResult:
    """Run an attack of the package on batches of images.

    The example of an image is the nearest misclassified iterate, and the clean image if there is none. The attack claims success if the
    prediction is wrong and the distance is at most the radius. The result for an image does not depend on its batch if its logits do not.

    Parameters
    ----------
    new_attack : callable
        Returns the package's attack; called once per batch, because the package's attacks remember the distances of their last batch.
    component : str
        Name of the attack in results.
    steps : int
        Number of steps, each of one forward and one backward pass.
    """
    model, images, labels = call.model, call.images, call.labels
    facade = _CpuFacade(model, images.device)
    examples = []
    with counted(model, call.progress, component, ceil(len(images) / batch_size) * (steps + 1)):
        for clean, batch_labels in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            data = DataLoader(TensorDataset(clean.cpu(), batch_labels.cpu()), batch_size=len(clean))
            nearest = new_attack()(facade, data).dataset.tensors[0].detach().to(clean)
            is_finite = torch.isfinite(nearest).flatten(1).all(1)
            examples.append(torch.where(is_finite[:, None, None, None], nearest, clean))
    adversarial = torch.cat(examples)
    is_wrong = torch.cat([predict(model, part) for part in adversarial.split(batch_size)]) != labels
    is_inside = NORMS[call.threat.norm].size(adversarial.double() - images.double()) <= call.threat.epsilon
    return AttackResult(adversarial, tuple(component if success else None for success in (is_wrong & is_inside).tolist()))


def passes_of_steps(steps: int) -> tuple[Passes, Passes]:
    """Return the passes for an image, twice: they are the same whether it is broken or not."""
    cost = Passes(steps + 1, steps)
    return cost, cost
