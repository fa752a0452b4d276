"""From the parameters of a specification to an adapter's typed ones: strict, nothing is filled in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from fractions import Fraction
from typing import Any, TypeVar, get_type_hints

from model_zoo.errors import UsageError

T = TypeVar("T")


def parse(kind: type[T], parameters: Mapping[str, Any], adapter: str) -> T:
    """Build the dataclass `kind` from `parameters`.

    Its fields are bool, int (at least 1: steps, restarts, queries), float (finite, not negative), str, Fraction (a positive exact
    fraction written as a string, "1/20") or list[str].

    Raises
    ------
    UsageError
        For an unknown, a missing or a mistyped parameter.
    """
    hints = get_type_hints(kind)
    wanted = [item.name for item in fields(kind)]  # type: ignore[arg-type]
    for unknown in sorted(parameters.keys() - set(wanted)):
        raise UsageError(f"attack adapter {adapter!r} has no parameter {unknown!r}; it has {', '.join(wanted)}")
    for missing in sorted(set(wanted) - parameters.keys()):
        raise UsageError(f"attack adapter {adapter!r} needs the parameter {missing!r}: every value is spelled out")
    return kind(**{name: _value(hints[name], parameters[name], f"{adapter}: {name}") for name in wanted})


def _value(hint: Any, value: Any, what: str) -> Any:
    if hint is Fraction:
        return _fraction(value, what)
    if hint == list[str]:
        if not (isinstance(value, list) and value and all(isinstance(item, str) for item in value)):
            raise UsageError(f"{what} is a list of names, not {value!r}")
        return list(value)
    # bool is a subclass of int, and steps = true is a mistake.
    if type(value) is not hint and not (hint is float and type(value) is int):
        raise UsageError(f"{what} is of type {hint.__name__}, not {value!r}")
    if hint is int and value < 1:
        raise UsageError(f"{what} is at least 1, not {value}")
    if hint is float and not (math.isfinite(value) and value >= 0):
        raise UsageError(f"{what} is finite and not negative, not {value}")
    return float(value) if hint is float else value


def _fraction(value: Any, what: str) -> Fraction:
    try:
        fraction = Fraction(value) if isinstance(value, str) else None
    except (ValueError, ZeroDivisionError):
        fraction = None
    if fraction is None or fraction <= 0:
        raise UsageError(f'{what} is a positive exact fraction such as "1/20", not {value!r}')
    return fraction
