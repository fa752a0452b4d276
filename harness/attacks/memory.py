"""Saved state of an attack with several components, so that an interrupted attack can resume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from harness.attacks.common import Flag

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Saved:
    """State after some components: the names of the finished components in order, tensors by name, and the warnings so far."""

    done: tuple[str, ...]
    tensors: Mapping[str, torch.Tensor]
    flags: tuple[Flag, ...] = ()


class Memory(Protocol):
    """Where an attack leaves its state after each component."""

    def load(self) -> Saved | None:
        """Return the state that was saved last, or None."""

    def save(self, saved: Saved) -> None:
        """Store a state, which replaces the previous one."""
