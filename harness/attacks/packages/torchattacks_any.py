"""Any attack of torchattacks, by class and arguments: a new attack is a specification, without code."""

from __future__ import annotations

from math import ceil
from typing import Any

import torch

from harness.attacks.common import Adapter, AttackCall, AttackResult
from harness.attacks.packages.facade import Facade, predict
from harness.attacks.parameters import Count, Ratio
from harness.attacks.parameters import Parameters as BaseParameters
from harness.attacks.progress import counted
from model_zoo.errors import UsageError


class Parameters(BaseParameters):
    """Class and arguments of the attack.

    `attack` is the name of a class of torchattacks ("TPGD", "Jitter"); `radius` the argument that the threat model's radius is given to,
    in units of the [0, 1] range, usually "eps"; `in_radii` arguments in units of the radius, as exact fractions ("1/4"); `arguments` all
    others; `forwards` the forward passes of one batch, for progress.
    """

    attack: str
    radius: str
    in_radii: dict[str, Ratio]
    arguments: dict[str, Any]
    forwards: Count
    batch_size: Count


def attack(call: AttackCall, parameters: Parameters) -> AttackResult:
    """Run the attack on batches of images.

    Raises
    ------
    UsageError
        If torchattacks has no such class, or the class does not take these arguments.
    """
    import torchattacks

    attack_class = getattr(torchattacks, parameters.attack, None)
    if not (isinstance(attack_class, type) and issubclass(attack_class, torchattacks.attack.Attack)):
        raise UsageError(f"torchattacks has no attack {parameters.attack!r}")
    try:
        scaled = {name: float(call.threat.radius * value) for name, value in parameters.in_radii.items()}
        package = attack_class(
            Facade(call.model, call.images.device), **{parameters.radius: call.threat.epsilon}, **scaled, **parameters.arguments
        )
    except (TypeError, ValueError) as error:
        raise UsageError(f"torchattacks.{parameters.attack}: {error}") from None
    examples, broken = [], []
    with counted(call.model, call.progress, parameters.attack, ceil(len(call.images) / parameters.batch_size) * parameters.forwards):
        batches = zip(call.images.split(parameters.batch_size), call.labels.split(parameters.batch_size), strict=True)
        for images, labels in batches:
            examples.append(package(images, labels).detach())
            broken.append(predict(call.model, examples[-1]) != labels)
    name = parameters.attack.lower()
    return AttackResult(torch.cat(examples), tuple(name if success else None for success in torch.cat(broken).tolist()))


ADAPTER = Adapter("torchattacks", version=1, parameters=Parameters, attack=attack, package="torchattacks")
