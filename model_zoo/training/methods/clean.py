"""Natural training: the cross-entropy on unmodified images, without an attack."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from model_zoo.training.inner_attack import Forward
from model_zoo.training.methods import Method
from model_zoo.training.sampler import Batch


def clean_loss(forward: Forward, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cross-entropy on unmodified images, and their logits."""
    logits = forward(batch.images).float()
    return F.cross_entropy(logits, batch.labels), logits


class Clean(Method):
    """Natural training, the paper's control; the curve's training accuracy is then that on clean images."""

    def loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss and the logits, both on clean images; see `Method.loss`."""
        return clean_loss(self.setting.trained, batch)


METHOD = Clean
