"""Attacks by name: a TOML file in `specs` with every default spelled out, and one adapter module per third-party package.

A new attack is a new TOML file. A new adapter is one new module with a dataclass `Parameters`, the constants `PACKAGE` and
`VERSION` and a function `attack` of the shape of `spec.Attack`; the adapter named "some-package" lives in `some_package.py`.
Importing this package loads neither torch nor an attack package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.attacks.spec import Attack, AttackResult, AttackSpec, Flag, adapter_module, bind, check, get, names, uses_apgd, uses_square

if TYPE_CHECKING:
    import torch

    from harness.attacks.memory import Memory
    from model_zoo.threat import ThreatModel

__all__ = ["Attack", "AttackResult", "AttackSpec", "Flag", "bind", "check", "get", "names", "run", "uses_apgd", "uses_square"]


def run(
    spec: AttackSpec,
    model: torch.nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    threat: ThreatModel,
    seed: int,
    progress: Callable[[float, str], None] | None = None,
    *,
    classes: int | None = None,
    memory: Memory | None = None,
) -> AttackResult:
    """Run one attack on images that the model classifies correctly.

    Whatever the attack does to the global random state and to the trace function is undone. The same arguments give the same
    bytes, on the same device type with the same number of intra-op threads.

    Parameters
    ----------
    spec : AttackSpec
        From `get`, or a changed copy of it.
    model : torch.nn.Module
        Frozen (eval mode, no parameter wants a gradient), float32 [N, 3, H, W] in [0, 1] to logits [N, classes].
    images, labels : torch.Tensor
        float32 [N, 3, H, W] in [0, 1] and int64 [N], on the model's device.
    threat : ThreatModel
        Of the norm that the specification is for.
    seed : int
        Unsigned 64-bit.
    progress : callable, optional
        Called with the fraction done, in [0, 1] and never falling, and the component at work.
    classes : int, optional
        The number of the model's logits; found with one forward pass of the images where it is not given.
    memory : Memory, optional
        Where an attack of several components leaves off and goes on; the result is the same as without.

    Raises
    ------
    UsageError
        Before anything runs: another norm, too few classes, an unknown adapter, parameters the adapter does not know or lacks.
    """
    import torch

    from harness.attacks.parameters import parse
    from harness.randomness import isolated

    check(spec, threat, classes)
    module = adapter_module(spec.adapter)
    parse(module.Parameters, spec.parameters, spec.adapter)
    if not len(images):
        return AttackResult(images.clone(), (), ())
    # A permuted or channels-last block gives gradients that pyautoattack cannot view as rows.
    images, labels = images.detach().contiguous(), labels.contiguous()
    if classes is None:
        with torch.no_grad():
            check(spec, threat, model(images).shape[1])
    attack: Attack = module.attack
    with isolated(seed), torch.enable_grad():
        given = {"memory": memory} if memory is not None and getattr(module, "RESUMABLE", False) else {}
        return attack(model, images, labels, threat, spec.parameters, seed, progress, **given)
