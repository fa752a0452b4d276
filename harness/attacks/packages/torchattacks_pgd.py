"""PGD on the cross-entropy (Madry et al., arXiv 1706.06083) from torchattacks."""

from __future__ import annotations

from math import ceil

import torch

from harness.attacks.common import Adapter, AttackCall, AttackResult
from harness.attacks.packages.facade import Facade, predict
from harness.attacks.parameters import RestartedAscent
from harness.attacks.passes import passes_of_restarts
from harness.attacks.progress import counted


def attack(call: AttackCall, parameters: RestartedAscent) -> AttackResult:
    """Run PGD. The example of an image is the last iterate of its first successful restart, or of its last restart.

    The random starts come from torch's global generator, which the caller has seeded. With one restart and one batch, the result is
    that of `torch.manual_seed(seed); torchattacks.PGD(model, eps, alpha, steps, random_start)(images, labels)`.
    """
    import torchattacks

    model, images, labels, threat = call.model, call.images, call.labels, call.threat
    package = torchattacks.PGD(
        Facade(model, images.device),
        eps=threat.epsilon,
        alpha=float(threat.radius * parameters.step),
        steps=parameters.steps,
        random_start=parameters.random_start,
    )
    adversarial = images.clone()
    broken = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    expected = ceil(len(images) / parameters.batch_size) * parameters.restarts * (parameters.steps + 1)
    with counted(model, call.progress, "pgd", expected):
        for batch in torch.split(torch.arange(len(images), device=images.device), parameters.batch_size):
            rows = batch
            for _ in range(parameters.restarts):
                adversarial[rows] = package(images[rows], labels[rows]).detach()
                broken[rows] = predict(model, adversarial[rows]) != labels[rows]
                rows = rows[~broken[rows]]
                if not len(rows):
                    break
    return AttackResult(adversarial, tuple("pgd" if success else None for success in broken.tolist()))


ADAPTER = Adapter(
    "torchattacks-pgd", version=1, parameters=RestartedAscent, attack=attack, package="torchattacks", passes=passes_of_restarts
)
