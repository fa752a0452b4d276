"""Evaluation of one unit without an attacker: one model on one block of images under one corruption of one severity."""

from __future__ import annotations

import numpy as np
import pandas as pd
from torch import nn

from harness.corruptions.common import Corruption, corrupt
from harness.datasets.base import ImageSet
from harness.evaluation.consistency import PROBE, check_consistent
from harness.evaluation.outcomes import COLUMNS, UnitOutcome
from harness.evaluation.referee import device_of, predict
from harness.evaluation.subject import admit
from harness.evaluation.unit import guarded
from model_zoo.fence import Fenced


def evaluate_corrupted(
    model: nn.Module,
    block: ImageSet,
    corruption: Corruption,
    severity: int,
    seed: int,
    *,
    backward: str = "exact",
    draws: tuple[int, int] | None = None,
) -> UnitOutcome:
    """Corrupt every image of `block`, and return the outcome of each.

    An image is "robust" if the model's prediction on the corrupted image is right, whatever it is on the clean one; otherwise it is
    broken by the corruption. One forward pass per image is counted, and no broken images are kept, since they can be made again.

    Parameters
    ----------
    model, backward, draws
        See `harness.evaluation.unit.evaluate_unit`.
    seed : int
        The base seed, see `harness.corruptions.common.corrupt`: all models see the same corrupted images.

    Raises
    ------
    UsageError
        If the corruption is not for images of this size.
    RefusedError, UserCodeError
        As `harness.evaluation.unit.evaluate_unit` raises them.
    """

    def run() -> UnitOutcome:
        judged = admit(model, block, backward=backward, draws=draws).judged
        corrupted = corrupt(block, corruption, severity, seed)
        images = corrupted.tensors()[0]
        if isinstance(model, Fenced):
            check_consistent(model, images[:PROBE].to(device_of(model)))
        clean, prediction = predict(judged, block.tensors()[0]).numpy(), predict(judged, images).numpy()
        return _outcome(block, corrupted, clean, prediction, corruption.name)

    return guarded(model, corruption.name, run)


def _outcome(block: ImageSet, corrupted: ImageSet, clean: np.ndarray, prediction: np.ndarray, name: str) -> UnitOutcome:
    difference = (corrupted.images.astype(np.int64) - block.images).reshape(len(block), -1)
    is_right = prediction == block.labels
    frame = pd.DataFrame(
        {
            "image": block.index,
            "label": block.labels,
            "clean_prediction": clean,
            "adversarial_prediction": prediction,
            "robust": is_right,
            "robust_to_seen": is_right,
            "broken_by": pd.Series([None if right else name for right in is_right], dtype="str"),
            "linf": np.abs(difference).max(axis=1) / 255.0,
            # Rounded, because the norms of 75 units per model would be most of a packed store.
            "l2": np.sqrt((difference**2).sum(axis=1) / 255.0**2).round(3),
            "forwards": np.ones(len(block), np.int64),
            "backwards": np.zeros(len(block), np.int64),
        }
    )[list(COLUMNS)]
    failures = int(((clean < 0) | (prediction < 0)).sum())
    flags = (("non-finite", f"logits of {failures} images are NaN or infinite, which counts as broken"),) if failures else ()
    _, height, width, channels = block.images.shape
    no_pictures = np.zeros((0, channels, height, width), np.float16)
    return UnitOutcome(frame, np.zeros(0, np.int64), no_pictures, flags, at_fault=False, boundary_flips=0)
