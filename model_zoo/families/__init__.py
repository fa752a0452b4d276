"""Model families: what kind of weights a network has, and what is learned.

Each module in this package defines one `FAMILY`; see `model_zoo.plugins` for how others are added.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from model_zoo.errors import UsageError, one_line
from model_zoo.plugins import FAMILIES
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
        Options of the family and their defaults. A required option has its type (float, int or str) in place of a default, or `None` if
        it may be any value.
    added : mapping
        Options that the family got after runs had been stored, and their defaults. A recipe has them only if they differ from these,
        so that the identities of stored runs stay the same.
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
    added: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[nn.Module, Mapping[str, Any]], None] = lambda network, options: None
    controller: Callable[[nn.Module, Mapping[str, Any]], Controller] = lambda network, options: Controller()

    def options(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Return `chosen` merged over the defaults, without added options at their defaults.

        Raises
        ------
        UsageError
            If an option is unknown or missing, or has another type or range.
        """
        known = {**self.defaults, **self.added}
        unknown = sorted(set(chosen) - set(known))
        if unknown:
            raise UsageError(f"family {self.name!r} has no option {unknown[0]!r}; it has {', '.join(sorted(known)) or 'none'}")
        merged = {**self.defaults, **{name: value for name, value in chosen.items() if name not in self.added or value != self.added[name]}}
        missing = sorted(name for name, value in merged.items() if value is None or isinstance(value, type))
        if missing:
            raise UsageError(f"family {self.name!r} needs the option {missing[0]!r}")
        for name, value in chosen.items():
            default = known[name]
            expected = _expected(name, value, default if isinstance(default, type) else type(default))
            if expected is not None:
                raise UsageError(f"option {name} of family {self.name!r} must be {expected}, not {one_line(repr(value), 60)}")
        return merged

    def all_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a recipe, and those in `added` that it lacks."""
        return {**self.added, **options}


def _expected(name: str, value: object, kind: type) -> str | None:
    """Return what an option is, if `value` is something else: no `kind`, not finite, or out of the range that its name implies."""
    # True and False are whole numbers to Python.
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    if kind is float:
        highest = 1.0 if name.endswith(("ratio", "rate", "power")) else 1e6
        is_right = number is not None and 0 <= number <= highest and (number > 0 or not name.endswith("ratio"))
        return None if is_right else f"a number from 0 to {highest:g}"
    if kind is int:
        lowest = 0 if name.endswith("epochs") else 1
        is_right = isinstance(number, int) and lowest <= number < 2**31
        return None if is_right else f"a whole number, at least {lowest}"
    return None if kind is type(None) or isinstance(value, kind) else f"of type {kind.__name__}"


def families() -> dict[str, Family]:
    """Return all families by name."""
    return dict(FAMILIES.items())


def get_family(name: str) -> Family:
    """Return the family called `name`; raises UnknownNameError if there is none."""
    return FAMILIES.get(name)
