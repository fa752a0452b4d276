"""Construction of a recipe's outer optimiser."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from model_zoo.training.sections import Optimiser


def make_optimiser(options: Optimiser, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return SGD or Adam with the recipe's options; the trainer sets the learning rate before every step."""
    if options.kind == "adam":
        return torch.optim.Adam(parameters, options.learning_rate, weight_decay=options.weight_decay)
    return torch.optim.SGD(
        parameters, options.learning_rate, momentum=options.momentum, weight_decay=options.weight_decay, nesterov=options.nesterov
    )
