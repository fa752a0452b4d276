"""What an attack of several components has done so far, so that one that is killed goes on where it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from harness.attacks.common import Flag

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Saved:
    """The state after some components: their names in order, tensors by name, and the warnings so far."""

    done: tuple[str, ...]
    tensors: Mapping[str, torch.Tensor]
    flags: tuple[Flag, ...] = ()


class Memory(Protocol):
    """Where an attack leaves its state after each component."""

    def load(self) -> Saved | None:
        """What was saved last, or None."""

    def save(self, saved: Saved) -> None:
        """Keep this in place of what was saved before."""
