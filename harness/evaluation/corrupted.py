"""Evaluation of one unit without an attacker: one model on one block of images under one corruption of one severity."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import nn

from harness.corruptions.common import Corruption, corrupt
from harness.datasets.base import ImageSet
from harness.evaluation.consistency import PROBE, check_consistent
from harness.evaluation.outcomes import COLUMNS, UnitOutcome
from harness.evaluation.referee import classify, device_of, logits_of, predict
from harness.evaluation.subject import admit
from harness.evaluation.unit import guarded
from harness.threats import L2, LINF
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
        images, corrupted = block.tensors()[0], corrupt(block, corruption, severity, seed).tensors()[0]
        if isinstance(model, Fenced):
            check_consistent(model, corrupted[:PROBE].to(device_of(model)))
        clean, prediction = predict(judged, images), classify(logits_of(judged, corrupted))
        return _outcome(block, images, corrupted, clean, prediction, corruption.name)

    return guarded(model, corruption.name, run)


def _outcome(
    block: ImageSet, images: torch.Tensor, corrupted: torch.Tensor, clean: torch.Tensor, prediction: torch.Tensor, name: str
) -> UnitOutcome:
    difference = corrupted.double() - images.double()
    is_right = (prediction.numpy() == block.labels) & (prediction.numpy() >= 0)
    frame = pd.DataFrame(
        {
            "image": block.index,
            "label": block.labels,
            "clean_prediction": clean.numpy(),
            "adversarial_prediction": prediction.numpy(),
            "robust": is_right,
            "robust_to_seen": is_right,
            "broken_by": pd.Series([None if right else name for right in is_right], dtype="str"),
            "linf": LINF.size(difference).numpy(),
            "l2": L2.size(difference).numpy(),
            "forwards": np.ones(len(block), np.int64),
            "backwards": np.zeros(len(block), np.int64),
        }
    )[list(COLUMNS)]
    failures = int(((clean < 0) | (prediction < 0)).sum())
    flags = (("non-finite", f"logits of {failures} images are NaN or infinite, which counts as broken"),) if failures else ()
    no_pictures = np.zeros((0, *images.shape[1:]), np.float16)
    return UnitOutcome(frame, np.zeros(0, np.int64), no_pictures, flags, at_fault=False, boundary_flips=0)
