"""Model families: what kind of weights a network has, and what is learned.

Each module in this package defines one `FAMILY`; a new module is found without being registered.
"""

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
    """Description of how to build a trainable network of one kind.

    Attributes
    ----------
    name : str
        Name in recipes: "pruned-binary", "dense", "hydra".
    kind : str
        Family name in records: "pruned-binary", "dense", "dense-binary", "sparse", "sparse-binary", "quantised". Options may change it and
        the weight bits, see `model_zoo.training.outcome.stored_as`.
    method : str or None
        Key into the bibliography; None if the method is given by how the network is trained.
    weight_bits : int
        Bits per weight, as in a record.
    taxonomy : mapping
        Fields of `model_zoo.schema.Taxonomy`; empty if nothing is pruned.
    convolution : callable
        Takes the family's options, returns a layer factory that is called as factory(in, out, kernel, stride=, padding=).
    affine : bool
        Whether batch norms have a learned scale and shift.
    is_masked : bool
        Whether networks compute with part of their weights, from the first step or in later stages; engine sparse can train those.
    moves_keep_ratio : bool
        Whether training may end at another keep ratio than the recipe's; a record then contains the reached one.
    averages : bool
        Whether a moving average of the parameters is a network of the family; False if the mean breaks a constraint of the method.
    defaults : mapping
        Options of the family and their defaults; `None` marks a required option.
    prepare : callable
        Called with (network, options) once the network is built.
    controller : callable
        Called with (network, options) after `prepare`; returns the controller that changes the network during training.
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
        """Return `given` merged over the defaults; raises UsageError for an unknown or a missing option."""
        unknown = sorted(set(given) - set(self.defaults))
        if unknown:
            raise UsageError(f"family {self.name!r} has no option {unknown[0]!r}; it has {', '.join(sorted(self.defaults)) or 'none'}")
        merged = {**self.defaults, **given}
        missing = sorted(name for name, value in merged.items() if value is None)
        if missing:
            raise UsageError(f"family {self.name!r} needs {missing[0]!r}")
        return merged


def families() -> dict[str, Family]:
    """Return all families by name."""
    loaded = (importlib.import_module(f"{__name__}.{module.name}").FAMILY for module in pkgutil.iter_modules(__path__))
    return {family.name: family for family in loaded}


def get_family(name: str) -> Family:
    """Return the family called `name`; raises UnknownNameError if there is none."""
    available = families()
    if name not in available:
        raise UnknownNameError("family", name, available, "harness ls models")
    return available[name]
