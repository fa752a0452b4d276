"""Engines: what an attack differentiates in place of the stored model, faster and equal to it. The referee never uses one.

`dense` is the stored model as PyTorch runs it; `folded` the same with batch norms folded and channels that keep nothing removed; `sparse`
adds up what the network kept, in numba, on the CPU; `bf16` is `folded` in bfloat16, and in float32 where that decides. `auto` is what the
attack's adapter names in a constant `ENGINE`, dense where it names none: the numbers that are stored for the packages' attacks were found
with it. Which engine a unit is run with follows from this rule, the attack and the record, never from a clock, so that two machines mean
the same unit.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.attacks.spec import AttackSpec, adapter_module
from model_zoo.errors import UnknownNameError, UsageError
from model_zoo.schema import Attackable

if TYPE_CHECKING:
    import torch
    from torch import nn

NAMES = ("auto", "dense", "folded", "sparse", "bf16")


@dataclass(frozen=True, eq=False)
class Prepared:
    """The module that is attacked, the engine that it is, and in words what the check found or why another was refused."""

    model: nn.Module
    engine: str
    finding: str


def resolve(asked: str, record: Attackable, spec: AttackSpec) -> str:
    """The engine of a unit; one that cannot express the record's model gives way to the next.

    Raises
    ------
    UnknownNameError
        For an engine that does not exist.
    """
    if asked not in NAMES:
        raise UnknownNameError("engine", asked, NAMES, "harness run --help")
    wanted = getattr(adapter_module(spec.adapter), "ENGINE", "dense") if asked == "auto" else asked
    if record.backward != "exact" or record.stochastic:
        return "dense"
    if wanted == "sparse" and not str(record.architecture["name"]).startswith("cifar-"):
        return "folded"
    return str(wanted)


def build(model: nn.Module, engine: str) -> nn.Module:
    """The module of an engine.

    Raises
    ------
    UsageError
        If it needs a package that is not here.
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
        raise UsageError("engine sparse needs numba: pip install 'robust-binary-harness[fast]', or ask for --engine dense")
    from harness.engines.sparse import SparseModel

    return SparseModel(model)


def prepare(model: nn.Module, built: nn.Module, engine: str, images: torch.Tensor) -> Prepared:
    """Compare an engine with the model on images float32 [N, 3, H, W] and refuse it, for the model itself, where they differ."""
    from harness.engines.equivalence import FLOAT32, compare

    if built is model:
        return Prepared(model, "dense", "")
    if images.device.type != "cpu" and engine == "sparse":
        return Prepared(model, "dense", "engine sparse refused: it runs on the CPU")
    checks = {"": (built, FLOAT32)}
    if engine == "bf16":
        from harness.engines.bf16 import BOUNDS

        # Its network is held to the bounds of float32 before it is rounded: bfloat16's would hide a wrong weight.
        checks = {"in float32 ": (built.get_submodule("exact"), FLOAT32), "in bfloat16 ": (built.get_submodule("rounded"), BOUNDS)}
    said = []
    for how, (candidate, bounds) in checks.items():
        found = compare(model, candidate, images, bounds)
        if found.refusal is not None:
            return Prepared(model, "dense", f"engine {engine} refused: {how}{found.refusal}")
        said.append(f"{how}{found}")
    return Prepared(built, engine, "; ".join(said))
