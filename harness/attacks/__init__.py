"""Attacks by name: a TOML file in `specs` with every default spelled out, run by an adapter.

A new attack is a new TOML file. A new adapter is a module in `packages` (third-party) or `native` with an `ADAPTER`; plug-ins add both, see
`model_zoo.plugins`. Importing this package loads neither torch nor an attack package.
"""

from __future__ import annotations

from harness.attacks.common import AttackCall, AttackResult, Flag
from harness.attacks.spec import AttackSpec, bind, check, check_parameters, get, names, uses_apgd, uses_square

__all__ = [
    "AttackCall",
    "AttackResult",
    "AttackSpec",
    "Flag",
    "bind",
    "check",
    "check_parameters",
    "get",
    "names",
    "run",
    "uses_apgd",
    "uses_square",
]


def run(spec: AttackSpec, call: AttackCall, classes: int | None = None) -> AttackResult:
    """Run one attack.

    Changes of the global random state and of the trace function are undone. The same arguments give the same bytes on the same type of
    device with the same number of intra-op threads.

    Parameters
    ----------
    spec : AttackSpec
        From `get`, or a changed copy of it.
    classes : int, optional
        Number of the model's logits; if it is not given, one forward pass of the images finds it.

    Raises
    ------
    UsageError
        Before anything runs: another norm, too few classes, an unknown adapter, a package that is not installed, parameters that the
        adapter does not know or lacks.
    """
    from dataclasses import replace

    import torch

    from harness.plugins import ATTACK_ADAPTERS
    from harness.randomness import isolated

    check(spec, call.threat, classes)
    adapter = ATTACK_ADAPTERS.get(spec.adapter)
    adapter.package_version()
    parameters = adapter.parse(spec.parameters)
    if not len(call.images):
        return AttackResult(call.images.clone(), (), ())
    # A permuted or channels-last block gives gradients that pyautoattack cannot view as rows.
    call = replace(call, images=call.images.detach().contiguous(), labels=call.labels.contiguous())
    if classes is None:
        with torch.no_grad():
            check(spec, call.threat, call.model(call.images).shape[1])
    with isolated(call.seed), torch.enable_grad():
        return adapter.attack(call, parameters)
