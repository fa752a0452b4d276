"""Other people's models: one module for each format or package they come from.

A module that defines an `ADAPTER` reads one format of checkpoint files; a new file is found by itself.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model_zoo.classifier import Classifier
from model_zoo.errors import UnknownNameError


@dataclass(frozen=True)
class Request:
    """What somebody says about a file; None where they do not.

    Attributes
    ----------
    dataset : str
        "cifar10", "cifar100" or "imagenet100".
    name : str
        What the file is published as: its name without the ending, or what was asked for.
    architecture : str or None
        A name of `model_zoo.architectures`; most formats tell it by the tensors.
    width : int or None
        Channels of the first stage.
    keep_ratio, allocation_power : float or None
        What the network was trained with, for the formats that do not store it.
    """

    dataset: str
    name: str = ""
    architecture: str | None = None
    width: int | None = None
    keep_ratio: float | None = None
    allocation_power: float | None = None

    @property
    def classes(self) -> int:
        """Number of logits."""
        return 10 if self.dataset == "cifar10" else 100


@dataclass(frozen=True)
class Imported:
    """A network from a checkpoint, and what was found in it.

    Attributes
    ----------
    model : Classifier
        Frozen, in eval mode.
    family, method : str
        As in a record.
    architecture : mapping
        As `build_classifier` takes it.
    affine : bool
        Whether batch norms have scales and shifts.
    weight_bits : int
        As in a record.
    keep_ratio, allocation_power : float or None
        As in a record: the fraction of weights kept, of those of the layers that are used.
    taxonomy : mapping
        As `model_zoo.schema.Taxonomy`; empty where nothing is pruned.
    zeros : int
        Weights that are kept by their score and exactly 0. They add nothing, so here they count as removed.
    ties : int
        Weights whose |score| is that of the last one kept in their layer, where that leaves a choice: which of them the official code
        kept is in no file. 0 means that the mask is certain.
    left_out : mapping
        Layers that are in the file and that the network never uses, with the number of their weights.
    notes : tuple of str
        What else its user should know.
    """

    model: Classifier
    family: str
    method: str
    architecture: Mapping[str, Any]
    affine: bool
    weight_bits: int = 32
    keep_ratio: float | None = None
    allocation_power: float | None = None
    taxonomy: Mapping[str, Any] = field(default_factory=dict)
    zeros: int = 0
    ties: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Adapter:
    """How to read one format.

    Attributes
    ----------
    name : str
        What `harness import` calls it.
    reads : str
        Whose files, in a line.
    load : callable
        Takes a path and a `Request`; an error of `model_zoo.errors` where the file is not what it should be.
    files : str
        Where the files are to be had, in a line; those with a direct link are in `model_zoo.adapters.published`.
    """

    name: str
    reads: str
    load: Callable[[Path, Request], Imported]
    files: str


def formats() -> dict[str, Adapter]:
    """Every format by name."""
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    found = (getattr(module, "ADAPTER", None) for module in modules)
    return {adapter.name: adapter for adapter in found if adapter is not None}


def get_format(name: str) -> Adapter:
    """The format called `name`; an UnknownNameError otherwise."""
    known = formats()
    if name not in known:
        raise UnknownNameError("format", name, known, "harness ls formats")
    return known[name]
