"""Masks that are in no file: the weights of largest |score|, for a keep ratio that is known from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model_zoo.adapters.fill import nothing_left, take
from model_zoo.errors import UsageError
from model_zoo.layers.pruned_binary import top_mask


@dataclass
class Masks:
    """Masks made so far, and what was doubtful in them.

    Attributes
    ----------
    path : Path
        The file, for errors.
    scores : dict
        Scores, as `<layer>.scores`; each is taken out as its mask is made.
    zeros, ties : int
        As in `Imported`.
    """

    path: Path
    scores: dict[str, torch.Tensor]
    zeros: int = 0
    ties: int = 0

    def mask(self, name: str, weight: torch.Tensor, kept: int) -> torch.Tensor:
        """The mask of a layer's `kept` largest |score|, float {0, 1} of the weight's shape; a DamagedFileError where scores do not fit."""
        rank = take(self.path, self.scores, f"{name}.scores", tuple(weight.shape)).abs()
        mask = top_mask(rank, min(kept, rank.numel()))
        if bool((mask == 1).any()):
            same = rank == rank[mask == 1].min()
            self.ties += int(same.sum()) if bool((mask[same] == 0).any()) else 0
        self.zeros += int(((weight == 0) & (mask == 1)).sum())
        return mask

    def all_used(self, architecture: Mapping[str, Any]) -> None:
        """Make sure that every score belonged to a layer."""
        nothing_left(self.path, self.scores, architecture)


def masks_of(path: Path, state: Mapping[str, torch.Tensor], ending: str, rename: Callable[[str], str]) -> Masks:
    """Masks from the scores in `state`, whose names end in `ending`, by our names of their layers."""
    scores = {f"{rename(name).removesuffix(ending)}.scores": tensor for name, tensor in state.items() if name.endswith(ending)}
    return Masks(path, scores)


def keep_ratio_for(path: Path, scored: bool, keep_ratio: float | None) -> float | None:
    """The keep ratio of a file with scores, None for one without.

    Raises
    ------
    UsageError
        If there are scores and no keep ratio, or the other way round.
    """
    if scored and keep_ratio is None:
        raise UsageError(f"{path} has scores: say with which keep ratio the network was trained (--keep-ratio)")
    if keep_ratio is not None and not scored:
        raise UsageError(f"{path} has no scores: what is kept is what is not zero, and no keep ratio is needed")
    return keep_ratio
