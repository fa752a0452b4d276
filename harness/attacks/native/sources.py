"""Make adversarial examples on one model to try them on another (Papernot et al. 2016, arXiv 1605.07277)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from harness.attacks.native.ascent import iterates, never, random_start
from harness.attacks.native.losses import Loss
from model_zoo import registry

# Number of sources on which examples are made.
COUNT = 3
STEPS = 20
BATCH = 250
# Shipped models of each family of data, in the order of preference: dense and pruned, float and binary.
SOURCES: Mapping[str, tuple[str, ...]] = {
    "cifar10": (
        "cifar10-rn8w28-dense",
        "cifar10-rn8w32-dense-binary",
        "cifar10-rn8w32-pruned-binary-k20-p1-e15",
        "cifar10-rn8s29-dense",
    ),
    "cifar100": (
        "cifar100-rn8w28-dense",
        "cifar100-rn8w32-dense-binary",
        "cifar100-rn8w32-pruned-binary-k10-p01",
        "cifar100-rn8w32-pruned-binary-k05-p01",
    ),
}


def sources(family: str, exclude: str | None = None) -> tuple[str, ...]:
    """Return the ids of the first `COUNT` sources for a family of data, without models whose weights' SHA-256 is `exclude`.

    The tuple is empty if no models of that family ship.
    """
    candidates = (name for name in SOURCES.get(family, ()) if registry.get_record(name).weights_sha256 != exclude)
    return tuple(candidates)[:COUNT]


def transfer_examples(
    source: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    epsilon: float,
    loss: Loss,
    seed: int,
    steps: int = STEPS,
    step: float | None = None,
) -> torch.Tensor:
    """Return the last iterates of signed-gradient ascent of `loss` on a source, in the Linf ball, float32 [N, C, H, W].

    The ascent continues after the source misclassifies an image: the higher the loss, the better the example transfers.

    Parameters
    ----------
    images, labels : torch.Tensor
        float32 [N, C, H, W] in [0, 1] and int64 [N].
    epsilon, step : float
        In units of the [0, 1] range; a step is 2.5 epsilon / steps by default.
    """
    examples, step_length = [], 2.5 * epsilon / steps if step is None else step
    for clean, batch_labels in zip(images.split(BATCH), labels.split(BATCH), strict=True):
        point = random_start(clean, epsilon, seed, 0)
        for iterate in iterates(source, loss, clean, batch_labels, point, epsilon, step_length, steps, never):
            point = iterate.points
        examples.append(point)
    return torch.cat(examples)
