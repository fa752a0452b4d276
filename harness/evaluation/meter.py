"""Meter: a wrapper around the model that sees every query, counts passes per image and keeps the best adversarial example.

Attacks drop images once they are broken and reorder the others, so a query does not say which images it is about. The meter assigns each
queried row to the clean image that is nearest on a grid of pixels, which adversarial perturbations hardly change. If a query has as many
rows as there are images, and most of them are nearest to the image at their position, all rows are assigned by position. The totals are
exact, but an iterate far from its image (possible with FAB) can be counted for another one. An example that the meter keeps always lies
inside the threat model of the image for which it is kept, whichever image the attack meant.

Small models answer in milliseconds, so the meter does as little as possible per query, in NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from harness.threats import NORMS
from model_zoo.threat import ThreatModel

# Rows and columns of the grid.
GRID = 8
# Factor by which a margin must exceed the kept one; otherwise every step of an attack that keeps climbing would be copied.
BETTER = 1.1
_STATE = ("forwards", "backwards", "examples", "margins", "non_finite")


@dataclass(frozen=True, eq=False)
class _Assignment:
    """Assignment of a query's rows to images: per row the image, its label and clean grid, and the number of rows per image.

    The assignment certainly holds if no grid pixel is farther than `certain` from the clean one.
    """

    rows: np.ndarray
    labels: np.ndarray
    grids: np.ndarray
    certain: float
    counts: np.ndarray


class Meter(nn.Module):
    """Wrapper that returns the logits of `model` and records the queries about each image.

    Attributes
    ----------
    forwards, backwards : torch.Tensor
        int64 [N]: number of passes for each of `images` [N, 3, H, W]. A backward pass is counted when a gradient flows back into the
        logits of a forward pass.
    examples : torch.Tensor
        float32 [N, 3, H, W]: the misclassified query inside `threat` with the largest margin, up to a factor of `BETTER`; the clean
        image if there was none.
    margins : torch.Tensor
        float32 [N]: margin of that query, in logits; -inf if there was none, inf if its logits were NaN or infinite.
    non_finite : torch.Tensor
        bool [N]: whether any finite query, inside `threat` or not, had NaN or infinite logits.
    """

    def __init__(self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, threat: ThreatModel) -> None:
        super().__init__()
        self.model = model
        self.images, self.labels, self.threat = images, labels, threat
        self.forwards = torch.zeros(len(images), dtype=torch.int64)
        self.backwards = torch.zeros(len(images), dtype=torch.int64)
        self.examples = images.clone()
        self.margins = torch.full((len(images),), -torch.inf)
        self.non_finite = torch.zeros(len(images), dtype=torch.bool)
        # NumPy views that share memory with the tensors above.
        self._forwards, self._backwards, self._margins = self.forwards.numpy(), self.backwards.numpy(), self.margins.numpy()
        self._labels = _to_numpy(labels)
        self._grids = _grid_pixels(images).flatten(1)
        self._half_squares = self._grids.square().sum(1) / 2
        self._columns = self._grids.T.contiguous()
        distances = torch.cdist(self._grids, self._grids).fill_diagonal_(torch.inf)
        # If no grid pixel is farther than this from an image's, the distance is less than half of that to the nearest other image.
        self._certain = _to_numpy(0.499 * distances.amin(1) / self._grids.shape[1] ** 0.5)
        self._last_assignment: _Assignment | None = None
        norm = NORMS[threat.norm]
        self._norm_size = norm.size_of_array
        self._limit = threat.epsilon + norm.tolerance
        self.train(model.training)

    def forward(self, queries: torch.Tensor) -> torch.Tensor:
        """Return the logits [M, classes] of `queries` [M, 3, H, W]."""
        logits: torch.Tensor = self.model(queries)
        detached = queries.detach()
        assignment = self._last_assignment = self._identify(detached)
        self._forwards += assignment.counts
        self._keep_best(detached, _to_numpy(logits.detach()), assignment)
        if logits.requires_grad:
            logits.register_hook(lambda _: self._count_backward(assignment.counts))
        return logits

    def state(self) -> dict[str, torch.Tensor]:
        """Return copies of the counts and examples, for `restore`."""
        return {name: getattr(self, name).clone() for name in _STATE}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from counts and examples that `state` returned."""
        for name in state.keys() & set(_STATE):
            getattr(self, name).copy_(state[name])

    def _count_backward(self, counts: np.ndarray) -> None:
        self._backwards += counts

    def _identify(self, queries: torch.Tensor) -> _Assignment:
        last = self._last_assignment
        if last is not None and len(last.rows) == len(queries):
            # Most queries are about the same images as the previous one, and checking that is faster than a search.
            difference = _to_numpy(_grid_pixels(queries)) - last.grids
            if difference.max() < last.certain and difference.min() > -last.certain:
                return last
        # Minimise half the squared distance, without the term that is the same for all images.
        grids = _grid_pixels(queries).flatten(1)
        rows = _to_numpy(torch.addmm(self._half_squares, grids, self._columns, alpha=-1).argmin(1))
        in_order = np.arange(len(self._labels))
        if len(rows) == len(in_order) and 2 * np.count_nonzero(rows == in_order) > len(rows):
            rows = in_order
        clean = _to_numpy(_grid_pixels(self.images)[rows])
        counts = np.bincount(rows, minlength=len(in_order))
        return _Assignment(rows, self._labels[rows], clean, float(self._certain[rows].min()), counts)

    def _keep_best(self, queries: torch.Tensor, logits: np.ndarray, assignment: _Assignment) -> None:
        is_wrong = logits.argmax(1) != assignment.labels
        is_non_finite = ~np.isfinite(logits).all(1)
        if is_non_finite.any():
            is_non_finite &= _to_numpy(torch.isfinite(queries).flatten(1).all(1))
            self.non_finite[assignment.rows[is_non_finite]] = True
            is_wrong |= is_non_finite
        if not is_wrong.any():
            return
        positions = np.flatnonzero(is_wrong)
        rows = assignment.rows[positions]
        # The largest logit of a misclassified query is that of another class.
        with np.errstate(invalid="ignore"):
            margins = logits[positions].max(1) - logits[positions, assignment.labels[positions]]
        margins[is_non_finite[positions]] = np.inf
        is_better = margins > BETTER * self._margins[rows]
        if not is_better.any():
            return
        positions, rows, margins = (values[is_better] for values in (positions, rows, margins))
        # Most queries of FAB lie outside the threat model, which the grid alone nearly always shows.
        is_near = self._norm_size(_to_numpy(_grid_pixels(queries))[positions] - assignment.grids[positions]) <= self._limit
        if not is_near.any():
            return
        positions, rows, margins = (values[is_near] for values in (positions, rows, margins))
        is_inside = self._is_inside(queries[positions], rows)
        positions, rows, margins = (values[is_inside] for values in (positions, rows, margins))
        # If a query contains an image twice, the larger margin is kept.
        np.maximum.at(self._margins, rows, margins)
        is_best = margins == self._margins[rows]
        self.examples[rows[is_best]] = queries[positions[is_best]]

    def _is_inside(self, queries: torch.Tensor, rows: np.ndarray) -> np.ndarray:
        points = _to_numpy(queries)
        is_inside: np.ndarray = self._norm_size(points - _to_numpy(self.images[rows])) <= self._limit
        pixels = points.reshape(len(points), -1)
        return is_inside & (pixels.min(1) >= 0.0) & (pixels.max(1) <= 1.0)


def _grid_pixels(images: torch.Tensor) -> torch.Tensor:
    """Return a view of evenly spaced pixels that identify an image, [N, 3, GRID, GRID] if its sides are multiples of GRID."""
    row_step, column_step = max(1, images.shape[2] // GRID), max(1, images.shape[3] // GRID)
    return images[:, :, row_step // 2 :: row_step, column_step // 2 :: column_step]


def _to_numpy(values: torch.Tensor) -> np.ndarray:
    array: np.ndarray = (values if values.device.type == "cpu" else values.cpu()).numpy()
    return array
