"""An attack adapted to what masks the gradients of binary networks: large logits, which saturate the cross-entropy, and steps.

Its components run in order, each on the images that no earlier one broke: PGD on the cross-entropy of rescaled logits (Gupta and
Ajanthan, arXiv 2003.13511), PGD on the margin and, if the network has steps, PGD on the margin with each surrogate gradient (BPDA,
Athalye et al., arXiv 1802.00420). The network's outputs are never changed, so that every example is an example for the network itself.
"""

from __future__ import annotations

from math import ceil

import torch

from harness.attacks.common import Adapter, AttackCall, AttackResult
from harness.attacks.native.ascent import climb, random_start
from harness.attacks.native.losses import Loss, cross_entropy, margin
from harness.attacks.native.surrogates import Surrogate
from harness.attacks.parameters import Count, Names, Ratio, Size
from harness.attacks.parameters import Parameters as BaseParameters
from harness.attacks.passes import Passes
from harness.attacks.progress import counted


class Parameters(BaseParameters):
    """Parameters shared by all components.

    `step` is in units of the radius; for the cross-entropy, the logits are scaled so that the median distance between the two largest
    is `logit_gap`; `surrogates` are names in `surrogates.SLOPES`; `restarts` is per component.
    """

    steps: Count
    step: Ratio
    restarts: Count
    logit_gap: Size
    surrogates: Names
    batch_size: Count


def passes(parameters: Parameters, classes: int) -> tuple[Passes, Passes]:
    """Return the most passes for an image that the first restart breaks, and those for one that survives, for a network without steps."""
    restart_cost = Passes(parameters.steps + 1, parameters.steps)
    return restart_cost, restart_cost * (2 * parameters.restarts)


def attack(call: AttackCall, parameters: Parameters) -> AttackResult:
    """Run every component. The random start of an image is drawn from the seed, the component, the restart and the image's pixels.

    Raises
    ------
    UsageError
        If the parameters name an unknown surrogate.
    """
    model, images, labels, threat = call.model, call.images, call.labels, call.threat
    epsilon, step = threat.epsilon, float(threat.radius * parameters.step)
    scale = parameters.logit_gap / max(_median_gap(model, images, parameters.batch_size), torch.finfo(torch.float32).tiny)
    components: list[tuple[str, torch.nn.Module, Loss]] = [
        ("ce-rescaled", model, lambda logits, targets: cross_entropy(scale * logits, targets)),
        ("margin", model, margin),
    ]
    for name in parameters.surrogates:
        surrogate = Surrogate(model, name)
        with torch.no_grad():
            surrogate(images[:1])
        if surrogate.replaced:
            components.append((f"margin-{name}", surrogate, margin))
    adversarial = images.clone()
    broken_by: list[str | None] = [None] * len(images)
    share = 1.0 / len(components)
    for index, (component, victim, loss) in enumerate(components):
        survivors = torch.tensor([row for row, breaker in enumerate(broken_by) if breaker is None], dtype=torch.int64, device=images.device)
        expected = ceil(len(survivors) / parameters.batch_size) * parameters.restarts * (parameters.steps + 1)
        with counted(model, call.progress, component, expected, index * share, share):
            for batch in torch.split(survivors, parameters.batch_size):
                for restart in range(parameters.restarts):
                    rows = batch[[broken_by[row] is None for row in batch.tolist()]]
                    if not len(rows):
                        break
                    start = random_start(images[rows], epsilon, (call.seed + index) % 2**64, restart)
                    result = climb(victim, loss, images[rows], labels[rows], start, epsilon, step, parameters.steps)
                    adversarial[rows] = result.examples
                    for row in rows[result.broken].tolist():
                        broken_by[row] = component
    return AttackResult(adversarial, tuple(broken_by))


def _median_gap(model: torch.nn.Module, images: torch.Tensor, batch_size: int) -> float:
    with torch.no_grad():
        top_logits = torch.cat([model(batch).topk(2, dim=1).values for batch in images.split(batch_size)])
    return float((top_logits[:, 0] - top_logits[:, 1]).median())


ADAPTER = Adapter("adaptive", version=1, parameters=Parameters, attack=attack, passes=passes)
