"""What a method does to its network while it is trained: hooks that the trainer calls, and state that it stores with the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch

from model_zoo.training.curve import EpochRecord


class Controller:
    """Hooks of one training run; every hook does nothing by default.

    A controller is made once per run, right after its network, so that what it draws at random follows from the recipe's seed. It holds
    references to the layers it changes and is not a part of the network.

    Attributes
    ----------
    stored : tuple of str
        Names of the attributes, all tensors, that `state` returns.
    """

    stored: ClassVar[tuple[str, ...]] = ()

    def at_epoch(self, epoch: int, epochs: int) -> None:
        """Prepare an epoch, counted from 0, of `epochs`.

        Called before every epoch, and again when a run is resumed within one: a change that may happen only once must be remembered in
        the state.
        """

    def after_step(self, progress: float) -> None:
        """Change the network after an optimiser step, at `progress` in (0, 1] of all steps of the run."""

    def penalty(self) -> torch.Tensor | float:
        """Return what is added to the loss of every batch."""
        return 0.0

    def after_epoch(self, curve: Sequence[EpochRecord]) -> None:
        """Look at the curve, up to the epoch that has just ended."""

    def on_clean(self) -> bool:
        """Return whether the next batch is trained on as it is, without an attack."""
        return False

    def state(self) -> dict[str, torch.Tensor]:
        """Return copies, on the CPU, of the tensors that decide how the method continues."""
        return {name: self._tensor(name).detach().cpu().clone() for name in self.stored}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore what `state` returned; another set of names or shapes is a ValueError."""
        if set(state) != set(self.stored):
            raise ValueError(f"{type(self).__name__} stores {sorted(self.stored)}, not {sorted(state)}")
        for name, tensor in state.items():
            present = self._tensor(name)
            if present.shape != tensor.shape:
                raise ValueError(f"{type(self).__name__}.{name} has shape {tuple(present.shape)}, not {tuple(tensor.shape)}")
            setattr(self, name, tensor.to(present).clone())

    def to(self, device: torch.device) -> None:
        """Move the stored tensors to the device of the network; single numbers stay on the CPU, where they are read after every step."""
        for name in self.stored:
            tensor = self._tensor(name)
            if tensor.dim():
                setattr(self, name, tensor.to(device))

    def _tensor(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = getattr(self, name)
        return tensor
