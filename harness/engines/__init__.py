"""Engines: faster models, equal to the stored one, that attacks differentiate in its place. The referee never uses one.

`dense` is the stored model as PyTorch runs it. `folded` is the same with batch norms folded in and channels without kept weights removed.
`sparse` adds up the kept weights in numba, on the CPU. `bf16` is `folded` in bfloat16, and in float32 if rounding could change the
prediction. `auto` is the engine that the attack's adapter names in a constant `ENGINE`, or dense if it names none, because the stored
numbers of the packages' attacks were computed with it. A unit's engine follows from this rule, the attack and the record, never from
timing, so that two machines run the same unit.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.attacks.spec import AttackSpec
from harness.plugins import ATTACK_ADAPTERS
from model_zoo.errors import UnknownNameError, UsageError
from model_zoo.schema import Attackable

if TYPE_CHECKING:
    import torch
    from torch import nn

NAMES = ("auto", "dense", "folded", "sparse", "bf16")


@dataclass(frozen=True, eq=False)
class Prepared:
    """The module to attack, its engine, and in words what the equivalence check measured or why another engine was refused."""

    model: nn.Module
    engine: str
    finding: str


def resolve(requested: str, record: Attackable, spec: AttackSpec) -> str:
    """Return the engine of a unit; an engine that cannot express the record's model is replaced by one that can.

    Raises
    ------
    UnknownNameError
        If `requested` is not an engine.
    """
    if requested not in NAMES:
        raise UnknownNameError("engine", requested, NAMES, "harness run --help")
    engine = ATTACK_ADAPTERS.get(spec.adapter).engine if requested == "auto" else requested
    if record.backward != "exact" or record.stochastic:
        return "dense"
    if engine == "sparse" and not str(record.architecture["name"]).startswith("cifar-"):
        return "folded"
    return str(engine)


def build(model: nn.Module, engine: str) -> nn.Module:
    """Return the module that runs `model` on an engine.

    Raises
    ------
    UsageError
        If the engine needs a package that is not installed.
    UnsuitedError
        If the engine cannot express the model.
    """
    if engine == "dense":
        return model
    if engine == "folded":
        from harness.engines.folded import FoldedModel

        return FoldedModel(model)
    if engine == "bf16":
        from harness.engines.bf16 import Bf16Model

        return Bf16Model(model)
    if importlib.util.find_spec("numba") is None:
        raise UsageError("engine sparse needs numba: pip install 'robust-binary-harness[fast]', or use --engine dense")
    from harness.engines.sparse import SparseModel

    return SparseModel(model)


def prepare(model: nn.Module, built: nn.Module, engine: str, images: torch.Tensor) -> Prepared:
    """Compare an engine with the model on images float32 [N, 3, H, W], and fall back to the model if they differ."""
    from harness.engines.equivalence import FLOAT32, compare

    if built is model:
        return Prepared(model, "dense", "")
    if images.device.type != "cpu" and engine == "sparse":
        return Prepared(model, "dense", "engine sparse refused: it runs on the CPU")
    checks = {"": (built, FLOAT32)}
    if engine == "bf16":
        from harness.engines.bf16 import BOUNDS

        # The network must meet the bounds of float32 before it is rounded, because those of bfloat16 would hide a wrong weight.
        checks = {"in float32 ": (built.get_submodule("exact"), FLOAT32), "in bfloat16 ": (built.get_submodule("rounded"), BOUNDS)}
    findings = []
    for prefix, (candidate, bounds) in checks.items():
        comparison = compare(model, candidate, images, bounds)
        if comparison.refusal is not None:
            return Prepared(model, "dense", f"engine {engine} refused: {prefix}{comparison.refusal}")
        findings.append(f"{prefix}{comparison}")
    return Prepared(built, engine, "; ".join(findings))
