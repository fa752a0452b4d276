"""The meter: a wrapper around the model that sees every query, counts passes for every image and keeps the best adversarial example.

Attacks drop images as they are broken and reorder what is left, so a query does not say which image it comes from. The meter
finds out from a grid of pixels, which adversarial perturbations hardly move: every queried row counts for the clean image with the
nearest grid. When all images are queried at once, in order, no search is needed. Totals are exact; an iterate that wanders far
from its image (FAB's may) can count for another. What the meter keeps as an example is inside the threat model of the image it keeps it
for, whichever the attack meant it for.
"""

from __future__ import annotations

from collections.abc import Mapping

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
        self.margins = torch.full((len(images),), -torch.inf, device=images.device)
        # The rows of a query of all images in order: most queries of most attacks.
        self._all = torch.arange(len(images), device=images.device)
        self._grids = _grids(images)
        self._half_squares = self._grids.square().sum(1) / 2
        self.train(model.training)

    def forward(self, queries: torch.Tensor) -> torch.Tensor:
        """Logits of `queries` [M, 3, H, W]."""
        logits: torch.Tensor = self.model(queries)
        rows = self._rows(queries.detach())
        self._count(self.forwards, rows)
        self._keep_best(queries.detach(), logits.detach(), rows)
        if logits.requires_grad:
            logits.register_hook(lambda _: self._count_backward(rows))
        return logits

    def state(self) -> dict[str, torch.Tensor]:
        """What has been counted and kept, for `restore`."""
        return {name: getattr(self, name).clone() for name in _KEPT}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from a `state`."""
        for name in _KEPT:
            setattr(self, name, state[name].to(getattr(self, name)))

    def _count_backward(self, rows: torch.Tensor) -> None:
        self._count(self.backwards, rows)

    def _count(self, passes: torch.Tensor, rows: torch.Tensor) -> None:
        passes += 1 if rows is self._all else torch.bincount(rows.cpu(), minlength=len(passes))

    def _rows(self, queries: torch.Tensor) -> torch.Tensor:
        if len(queries) == len(self.images):
            return self._all
        # The nearest grid: its distance squared, less what all have in common.
        return (self._half_squares - _grids(queries) @ self._grids.T).argmin(1)

    def _keep_best(self, queries: torch.Tensor, logits: torch.Tensor, rows: torch.Tensor) -> None:
        expected = self.labels if rows is self._all else self.labels[rows]
        wrong = (logits.argmax(1) != expected).nonzero().flatten()
        if not len(wrong):
            return
        found = torch.full((len(rows),), -torch.inf, device=logits.device)
        # The largest logit of a misclassified query is that of another class.
        found[wrong] = logits[wrong].amax(1) - logits[wrong, self.labels[rows[wrong]]]
        better = wrong[(found > BETTER * self.margins[rows])[wrong]]
        if not len(better):
            return
        better = better[self._inside(queries[better], rows[better])]
        # An image may be there twice: the larger margin stays.
        self.margins.scatter_reduce_(0, rows[better], found[better], "amax")
        better = better[found[better] == self.margins[rows[better]]]
        self.examples[rows[better]] = queries[better]

    def _inside(self, queries: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        difference = (queries - self.images[rows]).flatten(1)
        size = difference.abs().amax(1) if self.threat.norm == "Linf" else difference.norm(dim=1)
        inside = size <= self.threat.epsilon + TOLERANCE
        low, high = queries.aminmax()
        if low < 0.0 or high > 1.0:
            flat = queries.flatten(1)
            inside &= (flat.amin(1) >= 0.0) & (flat.amax(1) <= 1.0)
        return inside


def _grids(images: torch.Tensor) -> torch.Tensor:
    down, across = max(1, images.shape[2] // GRID), max(1, images.shape[3] // GRID)
    return images[:, :, down // 2 :: down, across // 2 :: across].flatten(1)
