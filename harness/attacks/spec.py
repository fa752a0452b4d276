"""What an attack is (a specification) and what it gives back (a result)."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from model_zoo.errors import DamagedFileError, UnknownNameError, UsageError
from model_zoo.threat import NORMS, ThreatModel

if TYPE_CHECKING:
    import torch

SPECS = Path(__file__).parent / "specs"

_FIELDS = {"name": str, "title": str, "adapter": str, "norm": str, "bounded": bool, "minimum_classes": int, "parameters": dict}


@dataclass(frozen=True)
class AttackSpec:
    """A named attack, fully expanded.

    Attributes
    ----------
    name : str
        "pgd".
    adapter : str
        "torchattacks-pgd": the module `torchattacks_pgd` of this package.
    norm : str
        "Linf" or "L2": the threat models it applies to.
    parameters : mapping
        Every default spelled out; step sizes as exact fractions of the radius ("1/20").
    minimum_classes : int
        The fewest classes a model may have.
    title : str
        For people.
    bounded : bool
        Whether the attack keeps to the radius. One that minimises the distance instead (CW-L2) returns what it found, inside the
        radius or not, and claims only what is inside.
    """

    name: str
    adapter: str
    norm: str
    parameters: Mapping[str, Any] = field(hash=False)
    minimum_classes: int
    title: str
    bounded: bool = True

    def identity(self) -> dict[str, Any]:
        """Everything that decides what the attack does, ready for canonical JSON: also the adapter's and the package's version.

        `package` and `package_version` are None for an attack of our own, which the adapter's version describes in full.
        """
        module = adapter_module(self.adapter)
        return {
            "name": self.name,
            "adapter": self.adapter,
            "adapter_version": module.VERSION,
            "package": module.PACKAGE,
            "package_version": None if module.PACKAGE is None else importlib.metadata.version(module.PACKAGE),
            "norm": self.norm,
            "bounded": self.bounded,
            "parameters": dict(self.parameters),
        }


@dataclass(frozen=True)
class Flag:
    """A warning as data: `kind` is one of a few fixed words ("zero-gradient", "square-helps", "dynamic"), `message` says more."""

    kind: str
    message: str


@dataclass(frozen=True, eq=False)
class AttackResult:
    """What an attack claims; the referee decides.

    Attributes
    ----------
    adversarial : torch.Tensor
        float32 [N, 3, H, W], the examples; an image that was not broken holds anything the threat model allows (with an unbounded
        attack: anything in the box).
    broken_by : tuple of str or None
        For each image the component whose example this is ("pgd", "apgd-ce"; "clean" where the model was wrong to begin with), None
        where the attack claims no success.
    flags : tuple of Flag
        De-duplicated, one of a kind.
    """

    adversarial: torch.Tensor
    broken_by: tuple[str | None, ...]
    flags: tuple[Flag, ...] = ()


class Attack(Protocol):
    """The function `attack` of an adapter module. The global generators are already seeded with `seed` when it is called.

    An adapter whose module has a constant `RESUMABLE = True` also takes `memory`, see `memory.Memory`.
    """

    def __call__(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        threat: ThreatModel,
        parameters: Mapping[str, Any],
        seed: int,
        progress: Callable[[float, str], None] | None,
        **given: Any,
    ) -> AttackResult:
        """Attack contiguous float32 images [N, 3, H, W], N at least 1, of int64 labels [N]."""


def names() -> list[str]:
    """List the names of all attacks, sorted."""
    return sorted(path.stem for path in SPECS.glob("*.toml"))


@cache
def get(name: str) -> AttackSpec:
    """Read the specification of that name; raise an UnknownNameError with the near miss if there is none."""
    if name not in names():
        raise UnknownNameError("attack", name, names(), "harness ls attacks")
    return load(SPECS / f"{name}.toml")


def check(spec: AttackSpec, threat: ThreatModel, classes: int | None = None) -> None:
    """Refuse, with a UsageError, a threat model of another norm than the attack's or a model of too few classes."""
    if threat.norm != spec.norm:
        raise UsageError(f"attack {spec.name!r} is for {spec.norm} threat models, and {threat} is not one")
    if classes is not None and classes < spec.minimum_classes:
        raise UsageError(f"attack {spec.name!r} needs at least {spec.minimum_classes} classes, and the model has {classes}")


def load(path: Path) -> AttackSpec:
    """Read one specification file. A missing, unknown or mistyped field is a DamagedFileError, and so is a name unlike the file's."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise DamagedFileError(path, "TOML", str(error)) from None
    for unknown in table.keys() - _FIELDS.keys():
        raise DamagedFileError(path, f"only the fields {', '.join(_FIELDS)}", f"the field {unknown!r}")
    for name, kind in _FIELDS.items():
        if name not in table:
            raise DamagedFileError(path, f"the field {name!r}", "none")
        if type(table[name]) is not kind:
            raise DamagedFileError(path, f"{name} of type {kind.__name__}", repr(table[name]))
    if table["name"] != path.stem:
        raise DamagedFileError(path, f"the name {path.stem!r}, as the file's", repr(table["name"]))
    if table["norm"] not in NORMS:
        raise DamagedFileError(path, f"a norm ({', '.join(NORMS)})", repr(table["norm"]))
    return AttackSpec(**table)


def uses_square(spec: AttackSpec) -> bool:
    """Whether an attack has Square among its components, which uses no gradients."""
    return "square" in spec.parameters.get("components", ())


def uses_apgd(spec: AttackSpec) -> bool:
    """Whether an attack has APGD among its components."""
    return any(component.startswith("apgd") for component in spec.parameters.get("components", ()))


def bind(spec: AttackSpec, family: str, weights_sha256: str) -> AttackSpec:
    """A specification with what depends on the data and the model filled in, by the adapter's function `bind` where it has one.

    Raises
    ------
    UsageError
        If the attack is not possible on data of that family.
    """
    filled = getattr(adapter_module(spec.adapter), "bind", None)
    return spec if filled is None else replace(spec, parameters=filled(spec.parameters, family, weights_sha256))


def adapter_module(adapter: str) -> ModuleType:
    """Import the module of an adapter ("torchattacks-pgd" is `torchattacks_pgd`); raise a UsageError if there is no such adapter."""
    name = f"{__package__}.{adapter.replace('-', '_')}"
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", adapter) or importlib.util.find_spec(name) is None:
        raise UsageError(f"unknown attack adapter {adapter!r}")
    module = importlib.import_module(name)
    if not hasattr(module, "attack"):
        raise UsageError(f"{adapter!r} is not an attack adapter: its module has no function `attack`")
    return module
