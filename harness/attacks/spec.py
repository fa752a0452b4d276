"""Specifications of attacks: one TOML file each, with every default spelled out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.plugins import ATTACK_ADAPTERS, ATTACKS
from model_zoo.documents import read_toml
from model_zoo.errors import DamagedFileError, UsageError
from model_zoo.plugins import source_sha256
from model_zoo.threat import NORMS, ThreatModel

SPECS = Path(__file__).parent / "specs"

_FIELDS = {"name": str, "title": str, "adapter": str, "norm": str, "bounded": bool, "minimum_classes": int, "parameters": dict}
_OPTIONAL_FIELDS = {"minimum_norm": bool}


@dataclass(frozen=True)
class AttackSpec:
    """A named attack, fully expanded.

    Attributes
    ----------
    name : str
        "pgd".
    adapter : str
        "torchattacks-pgd": a name in the registry `harness.plugins.ATTACK_ADAPTERS`.
    norm : str
        "Linf", "L2" or "L1": the threat models it applies to.
    parameters : mapping
        Every default spelled out; step sizes as exact fractions of the radius ("1/20").
    minimum_classes : int
        The fewest classes a model may have.
    title : str
        Title for readers.
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
    minimum_norm: bool = False

    def identity(self) -> dict[str, Any]:
        """Everything that decides what the attack does, ready for canonical JSON: also the adapter's and the package's version.

        `package` and `package_version` are None for an attack of this project, which the adapter's version describes in full. For an
        adapter from a plug-in, the hash of its source is part of the identity. Raises a UsageError if the package is not installed.
        """
        adapter = ATTACK_ADAPTERS.get(self.adapter)
        plugin_sha256 = source_sha256(ATTACK_ADAPTERS.origin(self.adapter))
        return {
            "name": self.name,
            "adapter": self.adapter,
            "adapter_version": adapter.version,
            "package": adapter.package,
            "package_version": adapter.package_version(),
            "norm": self.norm,
            "bounded": self.bounded,
            "parameters": dict(self.parameters),
            **({} if plugin_sha256 is None else {"adapter_source": plugin_sha256}),
        }


def names() -> list[str]:
    """Return the names of all attacks, sorted."""
    return ATTACKS.names()


def get(name: str) -> AttackSpec:
    """Return the specification called `name`, or that of a TOML file; raises an UnknownNameError if there is none."""
    return ATTACKS.get(name)


def check(spec: AttackSpec, threat: ThreatModel, classes: int | None = None) -> None:
    """Raise a UsageError if the norm of the threat model is not the attack's or the model has too few classes."""
    if threat.norm != spec.norm:
        raise UsageError(f"attack {spec.name!r} is for {spec.norm} threat models, not for {threat}")
    if classes is not None and classes < spec.minimum_classes:
        raise UsageError(f"attack {spec.name!r} needs at least {spec.minimum_classes} classes, but the model has {classes}")


def check_parameters(spec: AttackSpec) -> None:
    """Raise a UsageError that names the attack if there is no such adapter, or it cannot use a parameter."""
    try:
        ATTACK_ADAPTERS.get(spec.adapter).parse(spec.parameters)
    except UsageError as error:
        raise UsageError(f"attack {spec.name!r}: {error}") from None


def load(path: Path) -> AttackSpec:
    """Read one specification file.

    Raises
    ------
    DamagedFileError
        If the file is not TOML, a field is missing, unknown or of the wrong type, the name is not the file's, or the norm is unknown.
    """
    table = read_toml(path, "an attack")
    fields = _FIELDS | _OPTIONAL_FIELDS
    for unknown in table.keys() - fields.keys():
        raise DamagedFileError(path, f"only the fields {', '.join(fields)}", f"the field {unknown!r}")
    for name in _FIELDS.keys() - table.keys():
        raise DamagedFileError(path, f"the field {name!r}", "none")
    for name, kind in fields.items():
        if name not in table:
            continue
        if type(table[name]) is not kind:
            raise DamagedFileError(path, f"{name} of type {kind.__name__}", repr(table[name])[:1000])
    if table["name"] != path.stem:
        raise DamagedFileError(path, f"the name {path.stem!r}, as the file's", repr(table["name"]))
    if not 1 <= table["minimum_classes"] <= 2**20:
        raise DamagedFileError(path, "minimum_classes from 1 to 2^20", repr(table["minimum_classes"])[:1000])
    if table["norm"] not in NORMS:
        raise DamagedFileError(path, f"a norm ({', '.join(NORMS)})", repr(table["norm"]))
    return AttackSpec(**table)


def uses_square(spec: AttackSpec) -> bool:
    """Return whether the attack's components include Square, which uses no gradients."""
    return "square" in spec.parameters.get("components", ())


def uses_apgd(spec: AttackSpec) -> bool:
    """Return whether the attack's components include APGD."""
    return any(component.startswith("apgd") for component in spec.parameters.get("components", ()))


def bind(spec: AttackSpec, family: str, weights_sha256: str) -> AttackSpec:
    """Fill in what depends on the data and the model.

    Raises
    ------
    UsageError
        If the attack is not possible on data of that family.
    """
    adapter = ATTACK_ADAPTERS.get(spec.adapter)
    if adapter.bind is None:
        return spec
    return replace(spec, parameters=adapter.bind(adapter.parse(spec.parameters), family, weights_sha256))
