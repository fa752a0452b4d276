"""The meter: a wrapper around the model that sees every query, counts passes for every image and keeps the best adversarial example.

Attacks drop images as they are broken and reorder what is left, so a query does not say which image it comes from. The meter
finds out from a grid of pixels, which adversarial perturbations hardly move: every queried row counts for the clean image with the
nearest grid. A query of as many rows as there are images, most of them nearest to the image of their place, is all images in order,
however far a row has gone. Totals are exact; an iterate that wanders far from its image (FAB's may) can count for another. What the meter
keeps as an example is inside the threat model of the image it keeps it for, whichever the attack meant it for.

Small models answer in milliseconds, so rows are counted and compared in numpy, whose calls cost a fraction of torch's.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from harness.evaluation.referee import TOLERANCE
from model_zoo.threat import ThreatModel

# Pixels of the grid, across and along.
GRID = 8
# By so much a margin must exceed the one that is kept: an attack that goes on climbing would be copied at every step.
BETTER = 1.1
_KEPT = ("forwards", "backwards", "examples", "margins")


class Meter(nn.Module):
    """Behaves as `model`.

    Attributes
    ----------
    forwards, backwards : torch.Tensor
        int64 [N]: the passes that each of `images` [N, 3, H, W] has cost. A backward pass counts when a gradient flows back into the
        logits of a forward pass.
    examples : torch.Tensor
        float32 [N, 3, H, W]: of all queries inside `threat` that were misclassified the one with the largest margin, up to a factor of
        `BETTER`; the clean image where there was none.
    margins : torch.Tensor
        float32 [N]: that margin, in logits; -inf where there was none.
    """

    def __init__(self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, threat: ThreatModel) -> None:
        super().__init__()
        self.model = model
        self.images, self.labels, self.threat = images, labels, threat
        self.forwards = torch.zeros(len(images), dtype=torch.int64)
        self.backwards = torch.zeros(len(images), dtype=torch.int64)
        self.examples = images.clone()
        self.margins = torch.full((len(images),), -torch.inf)
        # The same memory.
        self._margins, self._labels = self.margins.numpy(), labels.cpu().numpy()
        self._in_order = np.arange(len(images))
        grids = _grids(images)
        self._half_squares, self._grids = grids.square().sum(1) / 2, grids.T.contiguous()
        self._inside_size = threat.epsilon + TOLERANCE
        self.train(model.training)

    def forward(self, queries: torch.Tensor) -> torch.Tensor:
        """Logits of `queries` [M, 3, H, W]."""
        logits: torch.Tensor = self.model(queries)
        asked = queries.detach()
        rows = self._rows(asked)
        self._count(self.forwards, rows)
        self._keep_best(asked, logits.detach().float().cpu().numpy(), rows)
        if logits.requires_grad:
            logits.register_hook(lambda _: self._count_backward(rows))
        return logits

    def state(self) -> dict[str, torch.Tensor]:
        """What has been counted and kept, for `restore`."""
        return {name: getattr(self, name).clone() for name in _KEPT}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from a `state`."""
        for name in _KEPT:
            getattr(self, name).copy_(state[name])

    def _count_backward(self, rows: np.ndarray) -> None:
        self._count(self.backwards, rows)

    def _count(self, passes: torch.Tensor, rows: np.ndarray) -> None:
        counts = passes.numpy()
        counts += 1 if rows is self._in_order else np.bincount(rows, minlength=len(counts))

    def _rows(self, queries: torch.Tensor) -> np.ndarray:
        # The nearest grid: its distance squared, less what all have in common.
        distances = torch.addmm(self._half_squares, _grids(queries), self._grids, alpha=-1)
        rows: np.ndarray = distances.argmin(1).cpu().numpy()
        if len(rows) == len(self._in_order) and 2 * np.count_nonzero(rows == self._in_order) > len(rows):
            return self._in_order
        return rows

    def _keep_best(self, queries: torch.Tensor, logits: np.ndarray, rows: np.ndarray) -> None:
        wrong = np.flatnonzero(logits.argmax(1) != self._labels[rows])
        if not len(wrong):
            return
        mine = rows[wrong]
        # The largest logit of a misclassified query is that of another class.
        found = logits[wrong].max(1) - logits[wrong, self._labels[mine]]
        better = found > BETTER * self._margins[mine]
        if not better.any():
            return
        inside = self._inside(queries[wrong[better]], mine[better])
        wrong, mine, found = (values[better][inside] for values in (wrong, mine, found))
        # An image may be there twice: the larger margin stays.
        np.maximum.at(self._margins, mine, found)
        best = found == self._margins[mine]
        self.examples[mine[best]] = queries[wrong[best]]

    def _inside(self, queries: torch.Tensor, rows: np.ndarray) -> np.ndarray:
        difference = (queries - self.images[rows]).flatten(1)
        size = difference.abs().amax(1) if self.threat.norm == "Linf" else difference.norm(dim=1)
        inside = size <= self._inside_size
        low, high = queries.aminmax()
        if low < 0.0 or high > 1.0:
            flat = queries.flatten(1)
            inside &= (flat.amin(1) >= 0.0) & (flat.amax(1) <= 1.0)
        found: np.ndarray = inside.cpu().numpy()
        return found


def _grids(images: torch.Tensor) -> torch.Tensor:
    down, across = max(1, images.shape[2] // GRID), max(1, images.shape[3] // GRID)
    return images[:, :, down // 2 :: down, across // 2 :: across].flatten(1)
