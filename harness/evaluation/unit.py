"""One unit: one model, one block of images, one threat model, one attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from torch import nn

from harness import attacks
from harness.attacks.spec import AttackSpec
from harness.datasets.base import ImageSet
from harness.evaluation.gates import check_images, check_model
from harness.evaluation.meter import Meter
from harness.evaluation.outcomes import COLUMNS, KEPT_IMAGES, UnitOutcome
from harness.evaluation.referee import judge, predict
from model_zoo.threat import ThreatModel

Progress = Callable[[float, str], None]

# Intra-op threads of a unit. More than one slows small batches down (AutoAttack on a dozen survivors took 203 s with two threads,
# 109 s with one); processes side by side use the other cores. Outcomes are promised for this number, so it is the same everywhere.
THREADS = 1


def evaluate_unit(
    model: nn.Module, block: ImageSet, threat: ThreatModel, spec: AttackSpec, seed: int, progress: Progress | None = None
) -> UnitOutcome:
    """Attack the images of `block` that `model` gets right and say what happened to each image.

    Parameters
    ----------
    model : nn.Module
        Frozen, in eval mode; float32 [N, 3, H, W] in [0, 1] to logits.
    block : ImageSet
        The unit's images.
    seed : int
        The unit's own, unsigned 64-bit.
    progress : callable, optional
        Called with the fraction done and the attack's component.

    Raises
    ------
    RefusedError
        If a gate refuses the images or the model.
    """
    with unit_threads():
        return _evaluate(model, block, threat, spec, seed, progress)


@contextmanager
def unit_threads() -> Iterator[None]:
    """Compute with the number of threads that outcomes are promised for; the number outside is as it was on exit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _evaluate(
    model: nn.Module, block: ImageSet, threat: ThreatModel, spec: AttackSpec, seed: int, progress: Progress | None
) -> UnitOutcome:
    images, labels = block.tensors()
    classes = len(block.classes)
    check_images(images, labels, classes)
    check_model(model, images, classes)
    clean = predict(model, images)
    rows = (clean == labels).nonzero().flatten()

    adversarial = images.clone()
    broken_by = np.full(len(block), None, dtype=object)
    forwards, backwards = (torch.zeros(len(block), dtype=torch.int64) for _ in range(2))
    flags: list[tuple[str, str]] = []
    if len(rows):
        meter = Meter(model, images[rows])
        result = attacks.run(spec, meter, images[rows].contiguous(), labels[rows], threat, seed, progress, classes=classes)
        adversarial[rows] = result.adversarial.detach().to(images)
        broken_by[rows.numpy()] = result.broken_by
        forwards[rows], backwards[rows] = meter.forwards, meter.backwards
        flags += [(flag.kind, flag.message) for flag in result.flags]

    verdict = judge(model, images, adversarial, labels, threat)
    claimed = torch.from_numpy(np.array([component is not None for component in broken_by]))
    attacked = torch.zeros(len(block), dtype=torch.bool)
    attacked[rows] = True
    outside = attacked & ~verdict.legal if spec.bounded else claimed & ~verdict.legal
    if outside.any():
        where = ", ".join(str(block.index[row]) for row in outside.nonzero().flatten()[:5].tolist())
        flags.append(("at-fault", f"{int(outside.sum())} examples outside {threat} or the [0, 1] box (images {where})"))
    flips = attacked & verdict.legal & (claimed != verdict.broken)
    broken = attacked & verdict.broken
    component = ["clean" if not attacked[row] else (broken_by[row] or spec.name) if broken[row] else None for row in range(len(block))]
    frame = pd.DataFrame(
        {
            "image": block.index,
            "label": labels.numpy(),
            "clean_prediction": clean.numpy(),
            "adversarial_prediction": verdict.prediction.numpy(),
            "robust": (attacked & ~broken).numpy(),
            "broken_by": pd.Series(component, dtype="str"),
            "linf": verdict.linf.numpy(),
            "l2": verdict.l2.numpy(),
            "forwards": forwards.numpy(),
            "backwards": backwards.numpy(),
        }
    )[list(COLUMNS)]
    kept = broken.nonzero().flatten()[:KEPT_IMAGES]
    perturbations = (adversarial[kept] - images[kept]).numpy().astype(np.float16)
    return UnitOutcome(frame, block.index[kept.numpy()], perturbations, tuple(flags), bool(outside.any()), int(flips.sum()))
