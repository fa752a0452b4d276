"""Base class of controllers: hooks by which a method changes its network during training, and state that is stored with the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch

from model_zoo.training.curve import EpochRecord


class Controller:
    """Hooks of one training run; every hook does nothing by default.

    A controller is created once per run, directly after its network, so that its random draws follow from the recipe's seed. It holds
    references to the layers that it changes, but is not a submodule of the network.

    Attributes
    ----------
    stored : tuple of str
        Names of the attributes, all tensors, that `state` returns and `restore` sets.
    """

    stored: ClassVar[tuple[str, ...]] = ()

    def at_epoch(self, epoch: int, epochs: int) -> None:
        """Prepare epoch `epoch`, counted from 0, of `epochs`.

        Called before every epoch, and again when a run is resumed within an epoch. A change that must happen only once therefore has to be
        recorded in the state.
        """

    def after_step(self, progress: float) -> None:
        """Change the network after an optimiser step; `progress` in (0, 1] is the fraction of the run's steps that are done."""

    def penalty(self) -> torch.Tensor | float:
        """Return a term that is added to the loss of every batch."""
        return 0.0

    def after_epoch(self, curve: Sequence[EpochRecord]) -> None:
        """Process the curve, which ends with the epoch that has just finished."""

    def on_clean(self) -> bool:
        """Return whether the next batch is trained on without an attack."""
        return False

    def state(self) -> dict[str, torch.Tensor]:
        """Return CPU copies of the tensors that decide how the method continues."""
        return {name: self._tensor(name).detach().cpu().clone() for name in self.stored}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore the tensors that `state` returned; raises ValueError if names or shapes differ."""
        if set(state) != set(self.stored):
            raise ValueError(f"{type(self).__name__} needs the state {sorted(self.stored)}, not {sorted(state)}")
        for name, tensor in state.items():
            current = self._tensor(name)
            if current.shape != tensor.shape:
                raise ValueError(f"{type(self).__name__}.{name} has shape {tuple(current.shape)}, not {tuple(tensor.shape)}")
            setattr(self, name, tensor.to(current).clone())

    def to(self, device: torch.device) -> None:
        """Move the stored tensors to `device`; zero-dimensional tensors stay on the CPU, because they are read after every step."""
        for name in self.stored:
            tensor = self._tensor(name)
            if tensor.dim():
                setattr(self, name, tensor.to(device))

    def _tensor(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = getattr(self, name)
        return tensor
