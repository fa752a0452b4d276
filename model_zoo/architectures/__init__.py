"""Architectures by name. Each module of this folder lists the ones it builds in `ARCHITECTURES`; a new file is found by itself."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from model_zoo.errors import UnknownNameError, UsageError

Builder = Callable[..., nn.Module]


def builders() -> dict[str, Builder]:
    """Every architecture name with the function that builds it."""
    by_name: dict[str, Builder] = {}
    for module in pkgutil.iter_modules(__path__):
        loaded = importlib.import_module(f"{__name__}.{module.name}")
        for name, builder in loaded.ARCHITECTURES.items():
            if name in by_name:
                raise RuntimeError(f"two architectures are called {name!r}")
            by_name[name] = builder
    return by_name


def build_network(architecture: Mapping[str, Any], convolution: Callable[..., nn.Module] = nn.Conv2d, affine: bool = True) -> nn.Module:
    """Build the network that `architecture` describes, without its input normalisation.

    Parameters
    ----------
    architecture : mapping
        `name` and the builder's own fields (`classes`, `width` or `widths`, `last_batch_norm`, ...).
    convolution : callable
        Called as convolution(in_channels, out_channels, kernel_size, stride=, padding=); makes layers without bias.
    affine : bool
        Whether batch norms inside the network have a learned scale and shift.

    Raises
    ------
    UnknownNameError
        For a name no module lists.
    UsageError
        For a field the architecture does not have, or a value it cannot take.
    """
    fields = dict(architecture)
    name = str(fields.pop("name"))
    available = builders()
    if name not in available:
        raise UnknownNameError("architecture", name, available, "harness ls models --json")
    try:
        return available[name](convolution=convolution, affine=affine, **fields)
    except TypeError as error:
        raise UsageError(f"architecture {name!r}: {error}") from None
