"""Losses of logits, one value an image: what attacks go up and probes look at."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The loss of plain PGD, [N]."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Largest other logit minus the label's, [N], positive where the image is misclassified (Carlini and Wagner 2017, their f6).

    The same whatever is added to all logits.
    """
    own = F.one_hot(labels, logits.shape[1]).bool()
    # max picks one of several equal maxima, where amax would split the gradient among them.
    return logits.masked_fill(own, -torch.inf).max(1).values - logits[own]


def dlr(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Difference of logits ratio (Croce and Hein 2020), [N]: the margin over the distance of the first to the third logit.

    Needs three classes at least.
    """
    ordered = logits.sort(1, descending=True).values
    return margin(logits, labels) / (ordered[:, 0] - ordered[:, 2] + 1e-12)


LOSSES: dict[str, Loss] = {"ce": cross_entropy, "margin": margin, "dlr": dlr}
