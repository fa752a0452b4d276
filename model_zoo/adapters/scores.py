"""Masks that are not stored in a file: they keep the weights of largest |score|, for a keep ratio that the user states."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model_zoo.adapters.fill import check_all_used, take
from model_zoo.errors import UsageError
from model_zoo.layers.pruned_binary import top_mask


@dataclass
class Masks:
    """Scores that are turned into masks layer by layer, with counts of doubtful weights.

    Attributes
    ----------
    path : Path
        The file, for error messages.
    scores : dict
        Scores by name, `<layer>.scores`; each is removed when its mask is made.
    zeros, ties : int
        Counts over the masks made so far, as in `Imported`.
    """

    path: Path
    scores: dict[str, torch.Tensor]
    zeros: int = 0
    ties: int = 0

    def mask(self, name: str, weight: torch.Tensor, kept: int) -> torch.Tensor:
        """Return the mask of a layer's `kept` largest |score|, float in {0, 1} of the weight's shape.

        Raises a DamagedFileError if the layer's scores are missing, not finite, or of another shape.
        """
        rank = take(self.path, self.scores, f"{name}.scores", tuple(weight.shape)).abs()
        mask = top_mask(rank, min(kept, rank.numel()))
        if bool((mask == 1).any()):
            is_tied = rank == rank[mask == 1].min()
            self.ties += int(is_tied.sum()) if bool((mask[is_tied] == 0).any()) else 0
        self.zeros += int(((weight == 0) & (mask == 1)).sum())
        return mask

    def all_used(self, architecture: Mapping[str, Any]) -> None:
        """Raise a DamagedFileError if scores remain that belong to no layer."""
        check_all_used(self.path, self.scores, architecture)


def masks_of(path: Path, state: Mapping[str, torch.Tensor], ending: str, rename: Callable[[str], str]) -> Masks:
    """Return the `Masks` of the scores in `state`, whose names end in `ending`, under our names of their layers."""
    scores = {f"{rename(name).removesuffix(ending)}.scores": tensor for name, tensor in state.items() if name.endswith(ending)}
    return Masks(path, scores)


def keep_ratio_for(path: Path, scored: bool, keep_ratio: float | None) -> float | None:
    """Check that a keep ratio is given if and only if the file has scores, and return it (None without scores).

    Raises
    ------
    UsageError
        If the file has scores and no keep ratio is given, or the other way round.
    """
    if scored and keep_ratio is None:
        raise UsageError(f"{path} has scores: pass the keep ratio that the network was trained with (--keep-ratio)")
    if keep_ratio is not None and not scored:
        raise UsageError(f"{path} has no scores: its nonzero weights are the kept ones; omit --keep-ratio")
    return keep_ratio
