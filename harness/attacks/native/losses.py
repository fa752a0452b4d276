"""Losses of logits with one value per image, which attacks ascend and probes evaluate."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of logits [N, classes] and labels int64 [N], the loss of plain PGD, [N]."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Largest other logit minus the label's, [N], positive if the image is misclassified (Carlini and Wagner 2017, their f6).

    Adding a constant to all logits does not change it.
    """
    is_label = F.one_hot(labels, logits.shape[1]).bool()
    # max picks one of several equal maxima, where amax would split the gradient among them.
    return logits.masked_fill(is_label, -torch.inf).max(1).values - logits[is_label]


def dlr(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Difference of logits ratio (Croce and Hein 2020), [N]: the margin divided by the difference of the largest and third logits.

    It needs at least three classes.
    """
    ordered = logits.sort(1, descending=True).values
    return margin(logits, labels) / (ordered[:, 0] - ordered[:, 2] + 1e-12)


LOSSES: dict[str, Loss] = {"ce": cross_entropy, "margin": margin, "dlr": dlr}
