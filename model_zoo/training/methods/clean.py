"""Natural training: the cross-entropy on images as they are, without an attack."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from model_zoo.training.inner_attack import Forward
from model_zoo.training.methods import Method
from model_zoo.training.sampler import Batch


def clean_loss(forward: Forward, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cross-entropy on images as they are, and their logits."""
    logits = forward(batch.images).float()
    return F.cross_entropy(logits, batch.labels), logits


class Clean(Method):
    """The paper's control; the curve's accuracy on training images is that on clean ones."""

    def loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """As in `Method`, the logits on clean images."""
        return clean_loss(self.setting.trained, batch)


METHOD = Clean
