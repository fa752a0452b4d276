"""A network with folded batch norms whose weights and statistics change from step to step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from model_zoo.kernels.graph import Graph
from model_zoo.kernels.live_taps import Entries, LiveTaps
from model_zoo.kernels.runner import Runner
from model_zoo.kernels.schedule import make_schedule


class LiveNetwork:
    """Runner for images of one size, with the entries and folds that its taps were last filled with.

    Code that changes the weights must set `entries` to None, so that the next call of `filled` fills the taps again.
    """

    def __init__(self, graph: Graph, rows: int, columns: int, lanes: int) -> None:
        self._taps = LiveTaps()
        self._runner = Runner(graph, make_schedule(graph, rows, columns, lanes, self._taps), lanes)
        self.entries: Mapping[int, Entries] | None = None
        self._folds: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._fillings = 0

    def filled(self, entries: Mapping[int, Entries], folds: dict[int, tuple[np.ndarray, np.ndarray]]) -> Filling:
        """Fill the taps if `self.entries` is None or a scale or shift has changed, and return the network as it is filled."""
        is_unchanged = self.entries is not None and all(
            np.array_equal(new, old) for target in folds for new, old in zip(folds[target], self._folds[target], strict=True)
        )
        if not is_unchanged:
            for target, (scale, shift) in folds.items():
                self._taps.fill(target, entries[target], scale, shift)
            self.entries, self._folds = entries, folds
            self._fillings += 1
        return Filling(self, self._fillings)

    def runner(self, number: int) -> Runner:
        """Return the runner; RuntimeError if its taps are no longer those of filling `number`."""
        if number != self._fillings:
            raise RuntimeError("engine sparse cannot go backward: weights or statistics have changed since the forward pass")
        return self._runner


@dataclass(frozen=True)
class Filling:
    """The runner as it was filled once, run by `FrozenNetwork`, so that no gradient is computed with other weights."""

    frozen: LiveNetwork
    number: int

    def forward(self, images: np.ndarray, keep: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Return logits and masks; see `Runner.forward`."""
        return self.frozen.runner(self.number).forward(images, keep)

    def backward(self, gradient: np.ndarray, masks: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        """Return the gradient with respect to the images, see `Runner.backward`; RuntimeError if the taps have been filled again."""
        return self.frozen.runner(self.number).backward(gradient, masks, size)
