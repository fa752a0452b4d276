"""Model families: what the weights are and what is learned. Each module here defines one `FAMILY`; a new file is found by itself."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from model_zoo.errors import UnknownNameError, UsageError
from model_zoo.training.controller import Controller

Convolution = Callable[..., nn.Module]


@dataclass(frozen=True)
class Family:
    """How to make a trainable network of one kind.

    Attributes
    ----------
    name : str
        As a recipe calls it: "pruned-binary", "dense", "hydra".
    kind : str
        What a record calls it: "pruned-binary", "dense", "dense-binary", "sparse", "sparse-binary", "quantised". An option may make it
        another, see `model_zoo.training.outcome.stored_as`; likewise weight bits.
    method : str or None
        Key into the bibliography; None where training alone makes the method.
    weight_bits : int
        As in a record.
    taxonomy : mapping
        As `model_zoo.schema.Taxonomy`; empty where nothing is pruned.
    convolution : callable
        Takes the family's options, returns a layer factory called as factory(in, out, kernel, stride=, padding=).
    affine : bool
        Whether its batch norms have a learned scale and shift.
    is_masked : bool
        Whether networks compute with part of their weights, from the first step or in later stages: engine sparse can train those.
    moves_keep_ratio : bool
        Whether training ends at another keep ratio than the recipe's; a record then says the one reached.
    averages : bool
        Whether a moving average of the parameters is a network of the family; False if the mean breaks a constraint of the method.
    defaults : mapping
        Options of the family and their defaults; `None` marks one that has to be given.
    prepare : callable
        Called with (network, options) once the network is built.
    controller : callable
        Called with (network, options) after `prepare`: returns what changes the network while it is trained.
    """

    name: str
    kind: str
    method: str | None
    convolution: Callable[[Mapping[str, Any]], Convolution]
    affine: bool
    weight_bits: int = 32
    taxonomy: Mapping[str, Any] = field(default_factory=dict)
    is_masked: bool = False
    moves_keep_ratio: bool = False
    averages: bool = True
    defaults: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[nn.Module, Mapping[str, Any]], None] = lambda network, options: None
    controller: Callable[[nn.Module, Mapping[str, Any]], Controller] = lambda network, options: Controller()

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """`given` over the defaults; an option the family does not have, or one that is missing, is a UsageError."""
        unknown = sorted(set(given) - set(self.defaults))
        if unknown:
            raise UsageError(f"family {self.name!r} has no option {unknown[0]!r}; it has {', '.join(sorted(self.defaults)) or 'none'}")
        merged = {**self.defaults, **given}
        missing = sorted(name for name, value in merged.items() if value is None)
        if missing:
            raise UsageError(f"family {self.name!r} needs {missing[0]!r}")
        return merged


def families() -> dict[str, Family]:
    """Every family by name."""
    found = (importlib.import_module(f"{__name__}.{module.name}").FAMILY for module in pkgutil.iter_modules(__path__))
    return {family.name: family for family in found}


def get_family(name: str) -> Family:
    """The family called `name`; an UnknownNameError otherwise."""
    known = families()
    if name not in known:
        raise UnknownNameError("family", name, known, "harness ls models")
    return known[name]
