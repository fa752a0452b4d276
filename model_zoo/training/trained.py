"""Progress reports and result of a training run."""

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
    """Result of training: the classifier in eval mode, the record of the selected epoch, the curve, and how the run was computed.

    `shape` is that of the images, [C, H, W].
    """

    model: Classifier
    selected: EpochRecord
    curve: list[EpochRecord] = field(default_factory=list)
    precision: str = "float32"
    threads: int = 1
    device: str = "cpu"
    images: int = 0
    shape: tuple[int, int, int] = (3, 32, 32)
    engine: str = "dense"


@dataclass(frozen=True)
class Step:
    """Progress of training: `done` of `total` optimiser steps, and images per second since this process began."""

    done: int
    total: int
    images_per_second: float


def make_trained(
    model: Classifier, curve: list[EpochRecord], best: Mapping[str, torch.Tensor] | None, selected: int, facts: Mapping[str, Any]
) -> Trained:
    """Return the result of a run: the model after its last epoch or, if not None, the state `best` of epoch `selected`, counted from 0."""
    if best is not None:
        model.load_state_dict(best)
    refresh(model)
    details = {name: facts[name] for name in ("precision", "threads", "device", "images", "engine")}
    channels, height, width = facts["shape"]
    return Trained(model.eval(), curve[-1] if best is None else curve[selected], curve, **details, shape=(channels, height, width))
