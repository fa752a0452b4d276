"""Models of other authors: one module for each format or package that they come from.

A module that defines an `ADAPTER` reads one format of checkpoint files; see `model_zoo.plugins` for how others are added.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model_zoo.classifier import Classifier
from model_zoo.plugins import FORMATS


@dataclass(frozen=True)
class Request:
    """Facts about a checkpoint that the user states; None if not stated.

    Attributes
    ----------
    dataset : str
        "cifar10", "cifar100" or "imagenet100".
    name : str
        Name under which the file is published: the file's name without its suffix, or the name that was requested.
    architecture : str or None
        A name of `model_zoo.architectures`; most formats recognise it from the tensors.
    width : int or None
        Number of channels of the first stage.
    keep_ratio, allocation_power : float or None
        Values that the network was trained with, for formats that do not store them.
    """

    dataset: str
    name: str = ""
    architecture: str | None = None
    width: int | None = None
    keep_ratio: float | None = None
    allocation_power: float | None = None

    @property
    def classes(self) -> int:
        """Number of logits: 10 for "cifar10", else 100."""
        return 10 if self.dataset == "cifar10" else 100


@dataclass(frozen=True)
class Imported:
    """Network from a checkpoint, with the facts found in the file.

    Attributes
    ----------
    model : Classifier
        Frozen classifier in eval mode.
    family, method : str
        As in a record.
    architecture : mapping
        Architecture as `build_classifier` takes it.
    affine : bool
        Whether batch norms have scales and shifts.
    weight_bits : int
        As in a record.
    keep_ratio, allocation_power : float or None
        As in a record; the keep ratio counts only layers that the network uses.
    taxonomy : mapping
        Fields of `model_zoo.schema.Taxonomy`; empty if nothing is pruned.
    zeros : int
        Number of weights that are kept by their score but are exactly 0. They have no effect and count as removed.
    ties : int
        Number of weights whose |score| equals that of the last weight kept in their layer, if only some of them are kept: files do not
        say which of them the official code kept. 0 means that the mask is certain.
    left_out : mapping
        Layers of the file that the network never uses, with the number of their weights.
    notes : tuple of str
        Further remarks for the user.
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
    """Reader of one checkpoint format.

    Attributes
    ----------
    name : str
        Name of the format in `harness import`.
    reads : str
        One line that says whose files it reads.
    load : callable
        Takes a path and a `Request` and returns an `Imported`; raises an error of `model_zoo.errors` if the file is not of this format.
    files : str
        One line that says where to get the files; those with a direct link are listed in `model_zoo.adapters.published`.
    """

    name: str
    reads: str
    load: Callable[[Path, Request], Imported]
    files: str


def formats() -> dict[str, Adapter]:
    """Return the adapters of all formats, keyed by name."""
    return dict(FORMATS.items())


def get_format(name: str) -> Adapter:
    """Return the adapter of the format `name`; raises an UnknownNameError if there is none."""
    return FORMATS.get(name)
