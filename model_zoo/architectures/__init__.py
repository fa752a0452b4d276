"""Architectures by name. Each module of this package lists those it builds in `ARCHITECTURES`; see `model_zoo.plugins` for others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from model_zoo.errors import UsageError
from model_zoo.plugins import ARCHITECTURES


def build_network(architecture: Mapping[str, Any], convolution: Callable[..., nn.Module] = nn.Conv2d, affine: bool = True) -> nn.Module:
    """Build the network that `architecture` describes, without its input normalisation.

    Parameters
    ----------
    architecture : mapping
        `name` and the fields of its builder (`classes`, `width` or `widths`, `activation`, `last_batch_norm`, ...).
    convolution : callable
        Called as convolution(in_channels, out_channels, kernel_size, stride=, padding=); returns layers without bias.
    affine : bool
        Whether batch norms inside the network have a learned scale and shift.

    Raises
    ------
    UnknownNameError
        If no module lists the name, or the activation does not exist.
    UsageError
        If the architecture does not have one of the fields, or cannot take its value.
    """
    fields = dict(architecture)
    name = str(fields.pop("name", ""))
    builder = ARCHITECTURES.get(name)
    try:
        return builder(convolution=convolution, affine=affine, **fields)
    except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError, AttributeError, MemoryError) as error:
        # Builders convert and multiply what they are given; torch refuses sizes as RuntimeError.
        raise UsageError(f"architecture {name!r}: {error or type(error).__name__}".splitlines()[0]) from None
