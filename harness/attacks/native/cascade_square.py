"""Gradient-free component of `cascade`: Square, which goes on with the images on which the gradients did badly."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from harness.attacks.native.pool import ModelQuery, State
from harness.attacks.native.square import Square


@dataclass(frozen=True, eq=False)
class CascadeSquare(Square):
    """A component of `pool`: Square with `least` queries for every image, and all `queries` for suspicious ones.

    An image is suspicious if the gradients raised its margin, from that of the clean image, by little: by no more than Square's progress
    divided by `progress`, or by no more than the rest of the way to zero divided by `far`.

    Attributes
    ----------
    least : int
        Queries after which an image is judged.
    progress, far : float
        Bounds of what is suspicious. If `progress` is 0, every image is.
    clean_margin, reached : torch.Tensor
        float32 [N]: margin of each clean image, and the largest margin that the gradient components reached.
    suspicious : torch.Tensor
        bool [N], in which this component marks the suspicious images.
    """

    least: int
    progress: float
    far: float
    clean_margin: torch.Tensor
    reached: torch.Tensor
    suspicious: torch.Tensor

    def advance(self, query_model: ModelQuery, state: State) -> tuple[torch.Tensor, torch.Tensor]:
        """Perform one query of every run."""
        row, is_judged = state["row"], state["iteration"] + 1 >= self.least
        is_adversarial, is_over = super().advance(query_model, state)
        by_gradients = self.reached[row] - self.clean_margin[row]
        by_square = state["best_margin"] - self.clean_margin[row]
        is_suspicious = (self.progress * by_gradients <= by_square) | (self.far * by_gradients <= -self.reached[row])
        self.suspicious[row[is_judged & is_suspicious]] = True
        return is_adversarial, is_over | (is_judged & ~is_suspicious)
