"""What a training run reports and returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from model_zoo.classifier import Classifier
from model_zoo.training.curve import EpochRecord
from model_zoo.training.engine import refresh


@dataclass
class Trained:
    """What training leaves: the classifier in eval mode, its curve, the epoch it is of, and how it was run."""

    model: Classifier
    selected: EpochRecord
    curve: list[EpochRecord] = field(default_factory=list)
    precision: str = "float32"
    threads: int = 1
    device: str = "cpu"
    images: int = 0
    engine: str = "dense"


@dataclass(frozen=True)
class Step:
    """Where training is: `done` of `total` optimiser steps, and images a second since this process began."""

    done: int
    total: int
    images_per_second: float


def make_trained(
    model: Classifier, curve: list[EpochRecord], best: Mapping[str, torch.Tensor] | None, selected: int, facts: Mapping[str, Any]
) -> Trained:
    """Return the result of a run from the model after its last epoch, or from the `best` state, that of epoch `selected` from 0."""
    if best is not None:
        model.load_state_dict(best)
    refresh(model)
    named = {name: facts[name] for name in ("precision", "threads", "device", "images", "engine")}
    return Trained(model.eval(), curve[-1] if best is None else curve[selected], curve, **named)
