"""Architectures by name.

Each module of this package lists the architectures that it builds in `ARCHITECTURES`; new modules are discovered automatically.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from model_zoo.errors import UnknownNameError, UsageError

Builder = Callable[..., nn.Module]


def builders() -> dict[str, Builder]:
    """Return every architecture name with the function that builds it; RuntimeError if two modules list the same name."""
    found: dict[str, Builder] = {}
    for module in pkgutil.iter_modules(__path__):
        loaded = importlib.import_module(f"{__name__}.{module.name}")
        for name, builder in loaded.ARCHITECTURES.items():
            if name in found:
                raise RuntimeError(f"two architectures are called {name!r}")
            found[name] = builder
    return found


def build_network(architecture: Mapping[str, Any], convolution: Callable[..., nn.Module] = nn.Conv2d, affine: bool = True) -> nn.Module:
    """Build the network that `architecture` describes, without its input normalisation.

    Parameters
    ----------
    architecture : mapping
        `name` and the fields of its builder (`classes`, `width` or `widths`, `last_batch_norm`, ...).
    convolution : callable
        Called as convolution(in_channels, out_channels, kernel_size, stride=, padding=); returns layers without bias.
    affine : bool
        Whether batch norms inside the network have a learned scale and shift.

    Raises
    ------
    UnknownNameError
        If no module lists the name.
    UsageError
        If the architecture does not have one of the fields, or cannot take its value.
    """
    fields = dict(architecture)
    name = str(fields.pop("name"))
    known = builders()
    if name not in known:
        raise UnknownNameError("architecture", name, known, "harness ls models --json")
    try:
        return known[name](convolution=convolution, affine=affine, **fields)
    except TypeError as error:
        raise UsageError(f"architecture {name!r}: {error}") from None
