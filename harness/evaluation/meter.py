"""The meter: a wrapper around the model that counts forward and backward passes for every image of a block.

Attacks drop images as they are broken and reorder what is left, so a query does not say which image it comes from. The meter
finds out from coarse thumbnails, which adversarial perturbations hardly move: every queried row counts for the clean image of
nearest thumbnail. When all images are queried at once, in order, no search is needed. Totals are exact; an iterate that wanders far
from its image (FAB's may) can count for another.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

THUMBNAIL = 4


class Meter(nn.Module):
    """Behaves as `model`; `forwards` and `backwards`, int64 [N], count the passes that each of `images` [N, 3, H, W] has cost.

    A backward pass counts when a gradient flows back into the logits of a forward pass.
    """

    def __init__(self, model: nn.Module, images: torch.Tensor) -> None:
        super().__init__()
        self.model = model
        self.images = images
        self.forwards = torch.zeros(len(images), dtype=torch.int64)
        self.backwards = torch.zeros(len(images), dtype=torch.int64)
        self._thumbnails = _thumbnails(images)
        self.train(model.training)

    def forward(self, queries: torch.Tensor) -> torch.Tensor:
        """Logits of `queries` [M, 3, H, W]."""
        logits = self.model(queries)
        rows = self._rows(queries.detach())
        self.forwards += torch.bincount(rows, minlength=len(self.forwards))
        if logits.requires_grad:
            logits.register_hook(lambda _: self._count_backward(rows))
        return logits

    def _count_backward(self, rows: torch.Tensor) -> None:
        self.backwards += torch.bincount(rows, minlength=len(self.backwards))

    def _rows(self, queries: torch.Tensor) -> torch.Tensor:
        if len(queries) == len(self.images):
            return torch.arange(len(self.images))
        return torch.cdist(_thumbnails(queries), self._thumbnails).argmin(1).cpu()


def _thumbnails(images: torch.Tensor) -> torch.Tensor:
    return F.adaptive_avg_pool2d(images, THUMBNAIL).flatten(1)
